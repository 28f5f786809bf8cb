"""Validation of `response_format` and of vLLM's fields for structured outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from r1_runtime.server.api.field_table import Field, flag, listing, nested, string, table
from r1_runtime.server.api.fields import bad_field, conflict
from r1_runtime.server.api.generation_request import OutputFormat
from r1_runtime.server.api.neutral_fields import only

_ANY_OBJECT: Mapping[str, Any] = {"type": "object"}
_MAX_CHOICES = 1024
_FORMATS = ("text", "json_object", "json_schema")
_MAX_BYTES = 256 * 2**10  # of a schema or grammar


def read_schema(value: object, param: str) -> Mapping[str, Any]:
    """A JSON schema, as an object or as JSON text.

    Raises:
        RequestError: 400.
    """
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError as error:
            raise bad_field(param, f"{param} must be a JSON schema: {error}") from error
    if not isinstance(value, Mapping):
        raise bad_field(param, f"{param} must be a JSON schema, an object")
    return value


def _read_response_format(value: object, param: str) -> OutputFormat | None:
    kind = value.get("type") if isinstance(value, Mapping) else None
    if not isinstance(value, Mapping) or kind not in _FORMATS:
        field = f"{param}.type" if isinstance(value, Mapping) else param
        raise bad_field(field, f"{field} must be one of {', '.join(_FORMATS)}")
    if kind == "text":
        return None
    if kind == "json_object":
        return OutputFormat("json_schema", _ANY_OBJECT, param)
    described = value.get("json_schema")
    field = f"{param}.json_schema"
    if not isinstance(described, Mapping) or "schema" not in described:
        raise bad_field(field, f"{field} must be an object with name and schema")
    return OutputFormat("json_schema", read_schema(described["schema"], f"{field}.schema"), field)


_CHOICES = listing("choice", string("choice", empty=False), least=1, most=_MAX_CHOICES)
_GRAMMAR = string("grammar", empty=False, longest=_MAX_BYTES)
_SCHEMA = Field("json", {"type": "object"}, read_schema)
_STRUCTURED = table(
    _SCHEMA,
    string("regex", empty=False, longest=_MAX_BYTES),
    _CHOICES,
    _GRAMMAR,
    flag("json_object"),
    only("disable_fallback", False),
    only("disable_any_whitespace", False),
    only("disable_additional_properties", False),
    only("whitespace_pattern"),
    only("structural_tag"),
    only("backend", "guidance"),
)
_RESPONSE_FORMAT = {
    "anyOf": [
        {
            "type": "object",
            "properties": {"type": {"enum": ["text", "json_object"]}},
            "required": ["type"],
        },
        {
            "type": "object",
            "properties": {
                "type": {"const": "json_schema"},
                "json_schema": {
                    "type": "object",
                    "properties": {"name": {"type": "string"}, "schema": {"type": "object"}},
                    "required": ["schema"],
                },
            },
            "required": ["type", "json_schema"],
        },
    ]
}
FIELDS = (
    Field("response_format", _RESPONSE_FORMAT, _read_response_format, "Format of the output."),
    nested("structured_outputs", _STRUCTURED, "vLLM's structured outputs; one key."),
    Field("guided_json", _SCHEMA.schema, read_schema, "A JSON schema of the output."),
    string("guided_regex", "A regular expression of the output.", empty=False, longest=_MAX_BYTES),
    Field("guided_choice", _CHOICES.schema, _CHOICES.read, "Texts to choose from."),
    string("guided_grammar", "A Lark or GBNF grammar.", empty=False, longest=_MAX_BYTES),
)
_KINDS: Mapping[str, Any] = {
    "json": "json_schema",
    "regex": "regex",
    "choice": "choice",
    "grammar": "grammar",
}


def output_format(values: Mapping[str, Any]) -> OutputFormat | None:
    """The one format that a body asks for, if any.

    Raises:
        RequestError: 400: more than one format.
    """
    formats: list[OutputFormat] = []
    if values.get("response_format") is not None:
        formats.append(values["response_format"])
    structured = values.get("structured_outputs") or {}
    if structured.get("json_object"):
        formats.append(OutputFormat("json_schema", _ANY_OBJECT, "structured_outputs.json_object"))
    for key, kind in _KINDS.items():
        if key in structured:
            formats.append(OutputFormat(kind, structured[key], f"structured_outputs.{key}"))
        if f"guided_{key}" in values:
            formats.append(OutputFormat(kind, values[f"guided_{key}"], f"guided_{key}"))
    if len(formats) > 1:
        fields = ", ".join(one.param for one in formats)
        raise conflict(formats[1].param, f"only one output format is possible; given: {fields}")
    return formats[0] if formats else None

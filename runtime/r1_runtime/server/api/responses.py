"""Bodies of `/v1/responses`: text in, text out, nothing stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from r1_runtime.generation_config import GenerationDefaults
from r1_runtime.server.api import neutral_fields
from r1_runtime.server.api.field_table import (
    Field,
    flag,
    json_object,
    nested,
    read_fields,
    required,
    string,
    table,
    whole,
)
from r1_runtime.server.api.fields import bad_field
from r1_runtime.server.api.generation_request import GenerationRequest, OutputFormat, Prompt
from r1_runtime.server.api.messages import parse_messages
from r1_runtime.server.api.neutral_fields import empty, only
from r1_runtime.server.api.output_format import read_schema
from r1_runtime.server.api.sampling_fields import SAMPLING, sampling_params

_UNLIMITED = 2**31 - 1
_NO_DEFAULTS = GenerationDefaults()
_PARTS = ("input_text", "output_text", "text")
_FORMATS = ("text", "json_object", "json_schema")
_ROLES = ("user", "assistant", "system", "developer")


@dataclass(frozen=True, slots=True)
class ResponsesRequest:
    """A parsed body; `echoed` are the parameters that the response repeats."""

    generation: GenerationRequest
    echoed: Mapping[str, Any]


def _read_input(value: object, param: str) -> tuple[Mapping[str, Any], ...]:
    """Text, or a list of messages with parts of text."""
    if isinstance(value, str):
        return ({"role": "user", "content": value},)
    if not isinstance(value, list) or not value:
        raise bad_field(param, f"{param} must be text or a list of messages")
    return parse_messages(
        [_message(item, f"{param}[{at}]") for at, item in enumerate(value)], param
    )


def _message(item: object, where: str) -> Mapping[str, Any]:
    if not isinstance(item, Mapping) or item.get("type") not in (None, "message"):
        raise bad_field(
            f"{where}.type", f"{where}.type must be message; other items have no effect"
        )
    content = item.get("content")
    if isinstance(content, list):
        content = [_part(part, f"{where}.content[{at}]") for at, part in enumerate(content)]
    return {"role": item.get("role"), "content": content}


def _part(part: object, where: str) -> Mapping[str, Any]:
    if not isinstance(part, Mapping) or part.get("type") not in _PARTS:
        raise bad_field(f"{where}.type", f"{where}.type must be one of {', '.join(_PARTS)}")
    return {"type": "text", "text": part.get("text")}


def _read_format(value: object, param: str) -> OutputFormat | None:
    kind = value.get("type") if isinstance(value, Mapping) else None
    if not isinstance(value, Mapping) or kind not in _FORMATS:
        raise bad_field(f"{param}.type", f"{param}.type must be one of {', '.join(_FORMATS)}")
    if kind == "text":
        return None
    if kind == "json_object":
        return OutputFormat("json_schema", {"type": "object"}, param)
    schema = read_schema(value.get("schema"), f"{param}.schema")
    return OutputFormat("json_schema", schema, f"{param}.schema")


_FORMAT_SCHEMA = {"type": "object", "properties": {"type": {"enum": list(_FORMATS)}}}
_TEXT = table(Field("format", _FORMAT_SCHEMA, _read_format), only("verbosity", "medium"))
_REASONING = table(only("effort", "none"), only("summary"), only("generate_summary"))
_SHARED = ("model", "temperature", "top_p", "top_k", "min_p", "seed", "stream", "cache_salt")
_INPUT = {
    "anyOf": [
        {"type": "string"},
        {"type": "array", "minItems": 1, "items": {"type": "object"}},
    ]
}
RESPONSES_FIELDS = table(
    *neutral_fields.RECORDS,
    *(field for field in SAMPLING if field.name in _SHARED),
    required(Field("input", _INPUT, _read_input, "Text, or messages with parts of text.")),
    string("instructions", "A system message before the input."),
    whole("max_output_tokens", 1, text="Tokens to generate at most."),
    nested("text", _TEXT, "Format of the text."),
    nested("reasoning", _REASONING),
    json_object("chat_template_kwargs", "Variables of the chat template."),
    flag("store", "Accepted; nothing is stored."),
    only("background", False),
    only("previous_response_id"),
    only("conversation"),
    only("prompt"),
    only("stream_options"),
    empty("tools"),
    only("tool_choice", "auto", "none"),
    only("parallel_tool_calls", True, False),
    only("truncation", "disabled"),
    empty("include"),
    neutral_fields.only_numbers("top_logprobs", 0),
    only("max_tool_calls"),
)


def parse_responses(body: object, defaults: GenerationDefaults = _NO_DEFAULTS) -> ResponsesRequest:
    """Parse a body.

    Raises:
        RequestError: 400, naming the field.
    """
    values = read_fields(body, RESPONSES_FIELDS)
    limit = values.get("max_output_tokens", defaults.max_tokens)
    messages = values["input"]
    if "instructions" in values:
        messages = ({"role": "system", "content": values["instructions"]}, *messages)
    params = sampling_params(values, defaults, _UNLIMITED if limit is None else limit, None)
    generation = GenerationRequest(
        model=values["model"],
        prompts=(Prompt(messages=messages),),
        params=params,
        limited=limit is not None,
        stream=values.get("stream", False),
        template_variables=dict(values.get("chat_template_kwargs", {})),
        format=(values.get("text") or {}).get("format"),
        cache_salt=values.get("cache_salt"),
    )
    given = body if isinstance(body, Mapping) else {}
    echoed: dict[str, Any] = {
        "instructions": values.get("instructions"),
        "max_output_tokens": values.get("max_output_tokens"),
        "metadata": given.get("metadata") or {},
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "temperature": params.temperature,
        "text": given.get("text") or {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": params.top_p,
        "truncation": "disabled",
        "store": False,
        "background": False,
    }
    return ResponsesRequest(generation, echoed)

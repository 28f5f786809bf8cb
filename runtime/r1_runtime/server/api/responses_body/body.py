"""Fields of `/v1/responses`. Nothing is stored: every request has its whole conversation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from r1_runtime.generation_config import GenerationDefaults
from r1_runtime.server.api import neutral_fields, tools
from r1_runtime.server.api.field_table import (
    Field,
    flag,
    json_object,
    listing,
    nested,
    one_of,
    read_fields,
    required,
    string,
    table,
    whole,
)
from r1_runtime.server.api.fields import bad_field, conflict
from r1_runtime.server.api.generation_request import GenerationRequest, OutputFormat, Prompt
from r1_runtime.server.api.neutral_fields import only, without_effect
from r1_runtime.server.api.output_format import read_schema
from r1_runtime.server.api.reasoning_effort import effort_field, template_variables
from r1_runtime.server.api.responses_body import function_tools
from r1_runtime.server.api.responses_body.input_items import INPUT_SCHEMA, read_input
from r1_runtime.server.api.sampling_fields import SAMPLING, sampling_params

_UNLIMITED = 2**31 - 1
_NO_DEFAULTS = GenerationDefaults()
_FORMATS = ("text", "json_object", "json_schema")


@dataclass(frozen=True, slots=True)
class ResponsesRequest:
    """A parsed body; `echoed` are the parameters that the response repeats."""

    generation: GenerationRequest
    echoed: Mapping[str, Any]


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


_FORMAT_SCHEMA = {
    "anyOf": [
        {
            "type": "object",
            "properties": {"type": {"enum": ["text", "json_object"]}},
            "required": ["type"],
        },
        {
            "type": "object",
            "properties": {"type": {"const": "json_schema"}, "schema": {"type": "object"}},
            "required": ["type", "schema"],
        },
    ]
}
_TEXT = table(Field("format", _FORMAT_SCHEMA, _read_format), only("verbosity", "medium"))
_SUMMARIES = ("auto", "concise", "detailed")
_REASONING = table(
    effort_field("effort"),
    only("summary", *_SUMMARIES),
    only("generate_summary", *_SUMMARIES),
)
# Parts of a response that only a server with tools of its own or without this text has.
_INCLUDED = (
    "code_interpreter_call.outputs",
    "computer_call_output.output.image_url",
    "file_search_call.results",
    "message.input_image.image_url",
    "reasoning.encrypted_content",
    "web_search_call.action.sources",
    "web_search_call.results",
)
_STORED = "; nothing is stored: send the whole conversation as input"
_CHAT_ONLY = ("max_tokens", "n", "stream_options")
RESPONSES_FIELDS = table(
    *neutral_fields.RECORDS,
    *(field for field in SAMPLING if field.name not in _CHAT_ONLY),
    required(Field("input", INPUT_SCHEMA, read_input, "Text, or a list of items.")),
    string("instructions", "A system message before the input."),
    whole("max_output_tokens", 1, text="Tokens to generate at most."),
    nested("text", _TEXT, "Format of the text."),
    nested("reasoning", _REASONING),
    flag("include_reasoning", "Whether the response has the text of the reasoning."),
    whole("thinking_token_budget", 0, _UNLIMITED, "Tokens of reasoning at most."),
    json_object("chat_template_kwargs", "Variables of the chat template."),
    *function_tools.FIELDS,
    nested("stream_options", table(*neutral_fields.STREAM_OPTIONS), "Options of a stream."),
    listing("include", one_of("include", _INCLUDED), "Accepted; no item has these parts."),
    flag("store", "Accepted; nothing is stored."),
    only("background", False),
    only("previous_response_id", reason=_STORED),
    only("conversation", reason=_STORED),
    only("prompt"),
    only("truncation", "disabled"),
    neutral_fields.only_numbers("priority", 0),
    neutral_fields.only_numbers("top_logprobs", 0),
    without_effect("max_tool_calls"),
)


def parse_responses(body: object, defaults: GenerationDefaults = _NO_DEFAULTS) -> ResponsesRequest:
    """Parse a body.

    Raises:
        RequestError: 400, naming the field.
    """
    values = read_fields(body, RESPONSES_FIELDS)
    if values.get("stream_options") and not values.get("stream"):
        raise conflict("stream_options", "stream_options needs stream: true")
    limit = values.get("max_output_tokens", defaults.max_tokens)
    messages = values["input"]
    if "instructions" in values:
        messages = ({"role": "system", "content": values["instructions"]}, *messages)
    wanted = tools.tool_request(values)
    params = sampling_params(
        values, defaults, _UNLIMITED if limit is None else limit, None, "max_output_tokens"
    )
    generation = GenerationRequest(
        model=values["model"],
        prompts=(Prompt(messages=messages),),
        params=params,
        limited=limit is not None,
        stream=values.get("stream", False),
        template_variables=template_variables(
            values, (values.get("reasoning") or {}).get("effort")
        ),
        tools=wanted,
        format=tools.only_format(wanted, (values.get("text") or {}).get("format")),
        include_reasoning=values.get("include_reasoning", True),
        thinking_budget=values.get("thinking_token_budget"),
        cache_salt=values.get("cache_salt"),
    )
    return ResponsesRequest(generation, _echoed(body, values, generation))


def _echoed(
    body: object, values: Mapping[str, Any], generation: GenerationRequest
) -> Mapping[str, Any]:
    """The parameters that the response repeats, with their defaults."""
    given = body if isinstance(body, Mapping) else {}
    return {
        "instructions": values.get("instructions"),
        "max_output_tokens": values.get("max_output_tokens"),
        "metadata": given.get("metadata") or {},
        "parallel_tool_calls": values.get("parallel_tool_calls", True),
        "previous_response_id": None,
        "temperature": generation.params.temperature,
        "text": given.get("text") or {"format": {"type": "text"}},
        "tool_choice": given.get("tool_choice") or "auto",
        "tools": given.get("tools") or [],
        "top_p": generation.params.top_p,
        "truncation": "disabled",
        "store": False,
        "background": False,
    }

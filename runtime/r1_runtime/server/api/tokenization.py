"""Bodies of `/tokenize` and `/detokenize`, with vLLM's fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from r1_runtime.server.api import tools
from r1_runtime.server.api.field_table import (
    Field,
    flag,
    json_object,
    listing,
    read_fields,
    required,
    string,
    table,
    whole,
)
from r1_runtime.server.api.fields import conflict
from r1_runtime.server.api.generation_request import Prompt, ToolRequest
from r1_runtime.server.api.messages import MESSAGES_SCHEMA, parse_messages
from r1_runtime.server.api.neutral_fields import only

_MODEL = string("model", "Name of the model; the served one by default.", empty=False)
TOKENIZE_FIELDS = table(
    _MODEL,
    string("prompt", "Text; or use messages."),
    Field("messages", MESSAGES_SCHEMA, parse_messages, "A conversation; or use prompt."),
    flag("return_token_strs", "Return the text of each token."),
    json_object("chat_template_kwargs", "Variables of the chat template."),
    tools.FIELDS[0],
    only("add_special_tokens", True),
    only("add_generation_prompt", True),
    only("continue_final_message", False),
    only("chat_template"),
)
DETOKENIZE_FIELDS = table(
    _MODEL, required(listing("tokens", whole("tokens", 0, 2**31 - 1), "Token numbers."))
)


@dataclass(frozen=True, slots=True)
class TokenizeRequest:
    """A parsed body of `/tokenize`."""

    model: str | None
    prompt: Prompt
    template_variables: Mapping[str, Any]
    tools: ToolRequest | None
    with_texts: bool


@dataclass(frozen=True, slots=True)
class DetokenizeRequest:
    """A parsed body of `/detokenize`."""

    model: str | None
    tokens: tuple[int, ...]


def parse_tokenize(body: object) -> TokenizeRequest:
    """Parse a body. Raises RequestError (400), naming the field."""
    values = read_fields(body, TOKENIZE_FIELDS)
    if ("prompt" in values) == ("messages" in values):
        raise conflict("prompt", "prompt or messages is required, and not both")
    return TokenizeRequest(
        values.get("model"),
        Prompt(messages=values.get("messages"), text=values.get("prompt")),
        values.get("chat_template_kwargs", {}),
        tools.tool_request(values),
        values.get("return_token_strs", False),
    )


def parse_detokenize(body: object) -> DetokenizeRequest:
    """Parse a body. Raises RequestError (400), naming the field."""
    values = read_fields(body, DETOKENIZE_FIELDS)
    return DetokenizeRequest(values.get("model"), values["tokens"])

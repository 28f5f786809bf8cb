"""Bodies of `/v1/chat/completions`."""

from __future__ import annotations

from dataclasses import replace

from r1_runtime.generation_config import GenerationDefaults
from r1_runtime.server.api import neutral_fields, output_format, tools
from r1_runtime.server.api.field_table import (
    Field,
    flag,
    json_object,
    read_fields,
    required,
    table,
    whole,
)
from r1_runtime.server.api.fields import conflict
from r1_runtime.server.api.generation_request import GenerationRequest, Prompt
from r1_runtime.server.api.messages import MESSAGES_SCHEMA, parse_messages
from r1_runtime.server.api.reasoning_effort import effort_field, template_variables
from r1_runtime.server.api.sampling_fields import (
    MAX_LOGPROBS,
    SAMPLING,
    TOKEN_FIELDS,
    sampling_params,
    stream_values,
    token_values,
)

_UNLIMITED = 2**31 - 1  # the rest of the context
_NO_DEFAULTS = GenerationDefaults()

CHAT_FIELDS = table(
    *neutral_fields.COMMON,
    *neutral_fields.CHAT,
    *SAMPLING,
    *TOKEN_FIELDS,
    required(Field("messages", MESSAGES_SCHEMA, parse_messages, "The conversation.")),
    whole("max_completion_tokens", 1, text="Tokens to generate at most; before max_tokens."),
    json_object("chat_template_kwargs", "Variables of the chat template."),
    effort_field("reasoning_effort"),
    flag("logprobs", "Return the log-probability of each token."),
    whole("top_logprobs", 0, MAX_LOGPROBS, "Most probable tokens to return at each position."),
    *tools.FIELDS,
    *output_format.FIELDS,
    flag("include_reasoning", "Whether the response has the text of the reasoning."),
    whole("thinking_token_budget", 0, _UNLIMITED, "Tokens of reasoning at most."),
)


def parse_chat(body: object, defaults: GenerationDefaults = _NO_DEFAULTS) -> GenerationRequest:
    """Parse a body.

    Raises:
        RequestError: 400, naming the field.
    """
    values = read_fields(body, CHAT_FIELDS)
    older = values.get("max_tokens", defaults.max_tokens)
    limit = values.get("max_completion_tokens", older)
    top = values.get("top_logprobs", 0)
    if top and not values.get("logprobs"):
        raise conflict("top_logprobs", "top_logprobs needs logprobs: true")
    wanted = tools.tool_request(values)
    request = GenerationRequest(
        model=values["model"],
        prompts=(Prompt(messages=values["messages"]),),
        params=sampling_params(
            values,
            defaults,
            max_tokens=_UNLIMITED if limit is None else limit,
            logprobs=top if values.get("logprobs") else None,
        ),
        limited=limit is not None,
        n=values.get("n", 1),
        template_variables=template_variables(values, values.get("reasoning_effort")),
        tools=wanted,
        format=tools.only_format(wanted, output_format.output_format(values)),
        include_reasoning=values.get("include_reasoning", True),
        thinking_budget=values.get("thinking_token_budget"),
        cache_salt=values.get("cache_salt"),
    )
    return replace(request, **stream_values(values), **token_values(values))

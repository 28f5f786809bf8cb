"""Bodies of `/v1/completions`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from r1_runtime.generation_config import GenerationDefaults
from r1_runtime.server.api import neutral_fields, output_format
from r1_runtime.server.api.field_table import Field, flag, read_fields, required, table, whole
from r1_runtime.server.api.fields import as_whole, bad_field, conflict
from r1_runtime.server.api.generation_request import GenerationRequest, Prompt
from r1_runtime.server.api.sampling_fields import (
    MAX_LOGPROBS,
    SAMPLING,
    TOKEN_FIELDS,
    sampling_params,
    stream_values,
    token_values,
)

_DEFAULT_TOKENS = 16  # OpenAI's default
_MAX_PROMPTS = 2048
_MOST = 2**31 - 1
_NO_DEFAULTS = GenerationDefaults()


def prompt_schema(least: int = 0) -> Mapping[str, Any]:
    """The schema of prompts with at least `least` characters."""
    token = {"type": "integer", "minimum": 0, "maximum": _MOST}
    tokens = {"type": "array", "items": token, "minItems": 1}
    text = {"type": "string", "minLength": least}
    several = {"type": "array", "items": {"anyOf": [text, tokens]}, "minItems": 1}
    return {"anyOf": [text, tokens, several]}


def read_prompts(value: object, param: str) -> tuple[Prompt, ...]:
    """One prompt or a list of them; a prompt is text or a list of token numbers."""
    if isinstance(value, list) and value and isinstance(value[0], str | list):
        if len(value) > _MAX_PROMPTS:
            raise bad_field(param, f"{param} may have at most {_MAX_PROMPTS} prompts")
        return tuple(_one_prompt(one, param) for one in value)
    return (_one_prompt(value, param),)


def _one_prompt(value: object, param: str) -> Prompt:
    if isinstance(value, str):
        return Prompt(text=value)
    tokens = _token_numbers(value) if isinstance(value, list) else None
    if not tokens:
        raise bad_field(param, f"{param} must be text, token numbers, or a list of such prompts")
    if min(tokens) < 0 or max(tokens) > _MOST:
        raise bad_field(param, f"{param} has a token number below 0 or above {_MOST}")
    return Prompt(tokens=tokens)


def _token_numbers(values: list[object]) -> tuple[int, ...] | None:
    """A list of whole numbers, such as 5 or 5.0; None for any other list."""
    if all(type(one) is int for one in values):
        return tuple(cast("list[int]", values))
    numbers = [None if isinstance(one, str) else as_whole(one) for one in values]
    whole = tuple(one for one in numbers if one is not None)
    return whole if len(whole) == len(values) else None


COMPLETION_FIELDS = table(
    *neutral_fields.COMMON,
    *neutral_fields.COMPLETION,
    *SAMPLING,
    *TOKEN_FIELDS,
    required(Field("prompt", prompt_schema(), read_prompts, "One prompt or several.")),
    whole("max_tokens", 0, text="Tokens to generate at most; 0 needs echo."),
    whole("logprobs", 0, MAX_LOGPROBS, "Most probable tokens to return at each position."),
    flag("echo", "Return the prompt before the output."),
    *output_format.FIELDS,
)


def _larger(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else max(one, other)


def parse_completion(
    body: object, defaults: GenerationDefaults = _NO_DEFAULTS
) -> GenerationRequest:
    """Parse a body.

    Raises:
        RequestError: 400, naming the field.
    """
    values = read_fields(body, COMPLETION_FIELDS)
    limit = values.get("max_tokens", _DEFAULT_TOKENS)
    echo, logprobs = values.get("echo", False), values.get("logprobs")
    if limit == 0 and not echo:
        raise conflict("max_tokens", "max_tokens must be at least 1, or 0 with echo: true")
    params = sampling_params(values, defaults, max(1, limit), logprobs)
    echoed = logprobs if echo else None
    request = GenerationRequest(
        model=values["model"],
        prompts=values["prompt"],
        params=replace(params, prompt_logprobs=_larger(params.prompt_logprobs, echoed)),
        limited=True,
        n=values.get("n", 1),
        echo=echo,
        no_output=limit == 0,
        format=output_format.output_format(values),
        cache_salt=values.get("cache_salt"),
    )
    return replace(request, **stream_values(values), **token_values(values))

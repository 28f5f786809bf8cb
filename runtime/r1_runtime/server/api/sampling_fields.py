"""Sampling parameters of a body: the fields that chats and completions share."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from r1_runtime.engine.sampling_params import SamplingParams
from r1_runtime.generation_config import GenerationDefaults
from r1_runtime.server.api.field_table import (
    Field,
    flag,
    listing,
    nested,
    number,
    required,
    string,
    table,
    whole,
)
from r1_runtime.server.api.fields import as_number, bad_field, conflict
from r1_runtime.server.api.neutral_fields import STREAM_OPTIONS

_MAX_STOPS = 16
_MAX_STOP_LENGTH = 4096
_MAX_BIASES = 1024
_MAX_OUTPUTS = 128
MAX_LOGPROBS = 20
_MOST = 2**31 - 1
_TOKEN = re.compile("[0-9]{1,9}")


def _stop() -> Field:
    one = string("stop", empty=False, longest=_MAX_STOP_LENGTH)
    many = listing("stop", one, most=_MAX_STOPS)

    def read(value: object, param: str) -> tuple[str, ...]:
        if isinstance(value, str):
            return (one.read(value, param),)
        if not isinstance(value, list) or not all(isinstance(stop, str) for stop in value):
            raise bad_field(param, f"{param} must be a non-empty string or a list of them")
        if len(value) > _MAX_STOPS:
            raise bad_field(param, f"{param} may have at most {_MAX_STOPS} strings")
        return tuple(one.read(stop, param) for stop in value)

    schema = {"anyOf": [dict(one.schema), dict(many.schema)]}
    return Field("stop", schema, read, "Texts that end the output and are not part of it.")


def _logit_bias() -> Field:
    def read(value: object, param: str) -> tuple[tuple[int, float], ...]:
        if not isinstance(value, Mapping):
            raise bad_field(param, f"{param} must be an object of token numbers and biases")
        if len(value) > _MAX_BIASES:
            raise bad_field(param, f"{param} may have at most {_MAX_BIASES} tokens")
        biases = {}
        for key, bias in value.items():
            amount = as_number(bias)
            if not _TOKEN.fullmatch(key):
                raise bad_field(param, f"{param} has the key {key[:40]!r}; keys are token numbers")
            token = int(key)
            if amount is None or not -100 <= amount <= 100:
                raise bad_field(param, f"{param}.{token} must be a number between -100 and 100")
            biases[token] = amount
        return tuple(biases.items())

    values = {"type": "number", "minimum": -100, "maximum": 100}
    schema = {
        "type": "object",
        "additionalProperties": values,
        "propertyNames": {"pattern": f"^{_TOKEN.pattern}$"},
        "maxProperties": _MAX_BIASES,
    }
    return Field("logit_bias", schema, read, "Addend to the logit of each token number.")


def _top_k() -> Field:
    field = whole("top_k", -1, _MOST, "Number of most probable tokens to sample from; 0 for all.")

    def read(value: object, param: str) -> int:
        return max(0, int(field.read(value, param)))

    return Field("top_k", field.schema, read, field.text)


_OPTIONS = table(
    flag("include_usage", "A last event with the usage."),
    flag("continuous_usage_stats", "The usage in every event."),
    *STREAM_OPTIONS,
)


def _prompt_logprobs() -> Field:
    field = whole("prompt_logprobs", 0, MAX_LOGPROBS)

    def read(value: object, param: str) -> int | None:
        return None if value is False else int(field.read(value, param))

    schema = {"anyOf": [dict(field.schema), {"enum": [False]}]}
    text = "Most probable tokens to return at each position of the prompt; not in a stream."
    return Field("prompt_logprobs", schema, read, text)


# vLLM's fields of a response that has tokens.
TOKEN_FIELDS = (
    flag("return_token_ids", "Return the tokens of prompt and output."),
    _prompt_logprobs(),
)

SAMPLING = (
    required(string("model", "Name of the model.", empty=False)),
    whole("max_tokens", 1, text="Tokens to generate at most."),
    whole("min_tokens", 0, _MOST, "Tokens before the output may end."),
    number("temperature", 0, 2, "0 selects the most probable token."),
    number("top_p", 0, 1, "Probability mass to sample from.", above=True),
    _top_k(),
    number("min_p", 0, 1, "Least probability, as a share of the most probable token's."),
    whole("seed", text="Makes the output repeatable."),
    number("presence_penalty", -2, 2, "Subtracted from the logits of tokens in the output."),
    number("frequency_penalty", -2, 2, "Subtracted for each occurrence in the output."),
    number("repetition_penalty", 0, 10, "Divides logits of tokens so far; 1: none.", above=True),
    _logit_bias(),
    _stop(),
    listing("stop_token_ids", whole("stop_token_ids", 0, _MOST), most=_MAX_BIASES),
    flag("ignore_eos", "Continue after the model's end token."),
    whole("n", 1, _MAX_OUTPUTS, "Outputs per prompt."),
    flag("stream", "Respond with server-sent events."),
    nested("stream_options", _OPTIONS, "Options of a stream."),
    string("cache_salt", "Only requests of the same salt share cached prompts.", empty=False),
)


def sampling_params(
    values: Mapping[str, Any],
    defaults: GenerationDefaults,
    max_tokens: int,
    logprobs: int | None,
    limit: str = "max_tokens",
) -> SamplingParams:
    """The parameters of every output of a request; errors call its limit of tokens `limit`.

    Raises:
        RequestError: 400: min_tokens is above max_tokens.
    """

    def given(name: str, default: Any) -> Any:
        return values.get(name, default)

    min_tokens = given("min_tokens", 0)
    if min_tokens > max_tokens:
        raise conflict("min_tokens", f"min_tokens must be at most {limit}, {max_tokens}")
    return SamplingParams(
        max_tokens=max_tokens,
        min_tokens=min_tokens,
        temperature=given("temperature", defaults.temperature),
        top_p=given("top_p", defaults.top_p),
        top_k=given("top_k", defaults.top_k),
        min_p=given("min_p", defaults.min_p),
        seed=given("seed", None),
        stop=given("stop", ()),
        stop_token_ids=given("stop_token_ids", ()),
        ignore_eos=given("ignore_eos", False),
        presence_penalty=given("presence_penalty", defaults.presence_penalty),
        frequency_penalty=given("frequency_penalty", defaults.frequency_penalty),
        repetition_penalty=given("repetition_penalty", defaults.repetition_penalty),
        logit_bias=given("logit_bias", ()),
        logprobs=logprobs,
        prompt_logprobs=given("prompt_logprobs", None),
    )


def token_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """`TOKEN_FIELDS`, as arguments of `GenerationRequest`.

    Raises:
        RequestError: 400: log-probabilities of the prompt in a stream.
    """
    scored = values.get("prompt_logprobs") is not None
    if scored and values.get("stream"):
        raise conflict("prompt_logprobs", "prompt_logprobs is not available in a stream")
    return {"token_ids": bool(values.get("return_token_ids")), "prompt_logprobs": scored}


def stream_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """`stream` and its options, as arguments of `GenerationRequest`.

    Raises:
        RequestError: 400: options without a stream.
    """
    stream = bool(values.get("stream"))
    options = values.get("stream_options")
    if options and not stream:
        raise conflict("stream_options", "stream_options needs stream: true")
    options = options or {}
    continuous = bool(options.get("continuous_usage_stats"))
    return {
        "stream": stream,
        "include_usage": bool(options.get("include_usage")),
        "continuous_usage": continuous and bool(options.get("include_usage")),
    }

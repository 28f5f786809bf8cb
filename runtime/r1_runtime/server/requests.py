"""Parsing of the bodies of `/v1/chat/completions` and `/v1/completions`, field by field.

A parameter that is not implemented is rejected by name (`parameters.py`): a client that requests log
probabilities must not receive a response without them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from r1_runtime.engine.sampling_params import SamplingParams
from r1_runtime.generation_config import GenerationDefaults
from r1_runtime.server.fields import bad_field, read_flag, read_number, read_whole
from r1_runtime.server.messages import parse_messages
from r1_runtime.server.parameters import CHAT, COMPLETION, STREAM_OPTIONS, check_fields

_SAMPLING = frozenset(
    {"model", "max_tokens", "temperature", "top_p", "seed", "stop", "stream", "stream_options"}
    | {"ignore_eos"}
)
_CHAT_FIELDS = _SAMPLING | {"messages", "max_completion_tokens", "chat_template_kwargs"}
_COMPLETION_FIELDS = _SAMPLING | {"prompt"}
_COMPLETION_TOKENS = 16  # OpenAI's default for /v1/completions
_MAX_STOPS = 16
_MAX_STOP_LENGTH = 4096
_NO_DEFAULTS = GenerationDefaults()
# Rank of each class in the header `x-r1-priority`, which the gateway sets.
_PRIORITIES: Mapping[str, int] = {"Q1": 0, "Q2": 1, "Q3": 2}


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """A parsed request; exactly one of `messages`, `text` and `tokens` is set."""

    model: str
    params: SamplingParams
    limited: bool  # whether max_tokens is a limit: the client's, the endpoint's or the model's
    stream: bool
    include_usage: bool
    messages: tuple[Mapping[str, Any], ...] | None = None
    template_variables: Mapping[str, Any] = field(default_factory=dict)
    text: str | None = None
    tokens: tuple[int, ...] | None = None
    priority: int = 1


def parse_priority(header: str | None) -> int:
    """The rank of a request's class: 0 is computed first; the default is Q2.

    Raises:
        RequestError: 400, no such class.
    """
    if header is None:
        return _PRIORITIES["Q2"]
    priority = _PRIORITIES.get(header.strip().upper())
    if priority is None:
        raise bad_field(
            "x-r1-priority",
            f"x-r1-priority is {header[:40]!r}; it must be one of {', '.join(_PRIORITIES)}",
        )
    return priority


def parse_chat(body: object, defaults: GenerationDefaults = _NO_DEFAULTS) -> GenerationRequest:
    """Parse the body of `/v1/chat/completions`.

    Raises:
        RequestError: 400, naming the field.
    """
    fields = _object(body)
    check_fields(fields, _CHAT_FIELDS, CHAT)
    variables = fields.get("chat_template_kwargs")
    if variables is not None and not isinstance(variables, Mapping):
        raise bad_field("chat_template_kwargs", "chat_template_kwargs must be an object")
    newer = read_whole(fields, "max_completion_tokens", least=1)
    older = read_whole(fields, "max_tokens", least=1)
    limit = older if newer is None else newer
    return GenerationRequest(
        messages=parse_messages(fields.get("messages")),
        template_variables=dict(variables or {}),
        **_common(fields, defaults.max_tokens if limit is None else limit, defaults),
    )


def parse_completion(
    body: object, defaults: GenerationDefaults = _NO_DEFAULTS
) -> GenerationRequest:
    """Parse the body of `/v1/completions`.

    Raises:
        RequestError: 400, naming the field.
    """
    fields = _object(body)
    check_fields(fields, _COMPLETION_FIELDS, COMPLETION)
    prompt = fields.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str | list):
        prompt = prompt[0]
    limit = read_whole(fields, "max_tokens", least=1)
    common = _common(fields, _COMPLETION_TOKENS if limit is None else limit, defaults)
    if isinstance(prompt, str):
        return GenerationRequest(text=prompt, **common)
    if isinstance(prompt, list) and prompt and all(type(item) is int for item in prompt):
        if min(prompt) < 0:
            raise bad_field("prompt", "prompt has a negative token number")
        return GenerationRequest(tokens=tuple(prompt), **common)
    raise bad_field("prompt", "prompt must be one string or one list of token numbers")


def _object(body: object) -> Mapping[str, Any]:
    if not isinstance(body, Mapping):
        raise bad_field(None, "the body must be a JSON object")
    return body


def _common(
    fields: Mapping[str, Any], limit: int | None, defaults: GenerationDefaults
) -> dict[str, Any]:
    model = fields.get("model")
    if not isinstance(model, str) or not model:
        raise bad_field("model", "model must be the name of the model")
    stream = read_flag(fields, "stream")
    params = SamplingParams(
        max_tokens=_COMPLETION_TOKENS if limit is None else limit,
        temperature=read_number(fields, "temperature", defaults.temperature, 0.0, 2.0),
        top_p=_top_p(fields, defaults.top_p),
        seed=read_whole(fields, "seed"),
        stop=_stops(fields),
        ignore_eos=read_flag(fields, "ignore_eos"),
    )
    return {
        "model": model,
        "params": params,
        "limited": limit is not None,
        "stream": stream,
        "include_usage": _include_usage(fields.get("stream_options"), stream),
    }


def _include_usage(options: object, stream: bool) -> bool:
    if options is None:
        return False
    if not stream:
        raise bad_field("stream_options", "stream_options needs stream: true")
    if not isinstance(options, Mapping):
        raise bad_field("stream_options", "stream_options must be an object")
    prefix = "stream_options."
    check_fields(options, frozenset({"include_usage"}), STREAM_OPTIONS, prefix)
    return read_flag(options, "include_usage", prefix)


def _stops(fields: Mapping[str, Any]) -> tuple[str, ...]:
    value = fields.get("stop")
    stops = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(stop, str) and stop for stop in stops):
        raise bad_field("stop", "stop must be a non-empty string or a list of them")
    if len(stops) > _MAX_STOPS:
        raise bad_field("stop", f"stop may have at most {_MAX_STOPS} strings")
    if any(len(stop) > _MAX_STOP_LENGTH for stop in stops):
        raise bad_field("stop", f"a stop string may have at most {_MAX_STOP_LENGTH} characters")
    return tuple(stops)


def _top_p(fields: Mapping[str, Any], default: float) -> float:
    value = read_number(fields, "top_p", default, 0.0, 1.0)
    if value == 0:
        raise bad_field("top_p", "top_p must be above 0 and at most 1")
    return value

"""The bodies of `/v1/chat/completions` and `/v1/completions`, checked field by field.

What is not implemented is refused by name: a client that asks for log probabilities must not get
an answer without them. Fields that cannot change the answer are let through.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from r1_runtime.engine.sequence import SamplingParams
from r1_runtime.errors import RequestError

# Told to us for the client's own bookkeeping.
_HARMLESS = frozenset({"user", "metadata", "safety_identifier", "prompt_cache_key", "service_tier"})
# Not implemented; the values that ask for nothing are accepted.
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "logprobs": (False,),
    "top_logprobs": (),
    "echo": (False,),
    "suffix": (),
    "tools": ([],),
    "tool_choice": ("none",),
    "parallel_tool_calls": (True, False),
    "response_format": ({"type": "text"},),
    "store": (False,),
    "min_tokens": (0,),
}
_SAMPLING = frozenset(
    {"model", "max_tokens", "temperature", "top_p", "seed", "stop", "stream", "stream_options"}
    | {"ignore_eos"}
)
_CHAT_FIELDS = _SAMPLING | {"messages", "max_completion_tokens"}
_COMPLETION_FIELDS = _SAMPLING | {"prompt"}
_ROLES = frozenset({"system", "user", "assistant", "developer", "tool"})
_MAX_STOPS = 16
# Of the header `x-r1-priority`, which the gateway sets: the rank of each class.
_URGENCY: Mapping[str, int] = {"Q1": 0, "Q2": 1, "Q3": 2}


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """A checked request; exactly one of `messages`, `text` and `tokens` is set."""

    model: str
    params: SamplingParams
    limited: bool  # whether the client set max_tokens
    stream: bool
    include_usage: bool
    messages: tuple[Mapping[str, str], ...] | None = None
    text: str | None = None
    tokens: tuple[int, ...] | None = None
    urgency: int = 1


def parse_urgency(header: str | None) -> int:
    """The rank of a request's class: 0 is computed first; a request without one is Q2.

    Raises:
        RequestError: 400, no such class.
    """
    if header is None:
        return _URGENCY["Q2"]
    urgency = _URGENCY.get(header.strip().upper())
    if urgency is None:
        raise RequestError(
            f"x-r1-priority is {header[:40]!r}; it must be one of {', '.join(_URGENCY)}",
            param="x-r1-priority",
        )
    return urgency


def parse_chat(body: object) -> GenerationRequest:
    """Check the body of `/v1/chat/completions`.

    Raises:
        RequestError: 400, naming the field.
    """
    fields = _open(body, _CHAT_FIELDS)
    limit = "max_tokens" if fields.get("max_completion_tokens") is None else "max_completion_tokens"
    return GenerationRequest(messages=_messages(fields), **_common(fields, limit))


def parse_completion(body: object) -> GenerationRequest:
    """Check the body of `/v1/completions`.

    Raises:
        RequestError: 400, naming the field.
    """
    fields = _open(body, _COMPLETION_FIELDS)
    prompt = fields.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str | list):
        prompt = prompt[0]
    common = _common(fields, "max_tokens")
    if isinstance(prompt, str):
        return GenerationRequest(text=prompt, **common)
    if isinstance(prompt, list) and prompt and all(_is_whole(item) for item in prompt):
        if min(prompt) < 0:
            raise _bad("prompt", "prompt holds a negative token number")
        return GenerationRequest(tokens=tuple(prompt), **common)
    raise _bad("prompt", "prompt must be one text or one list of token numbers")


def _open(body: object, known: frozenset[str]) -> Mapping[str, Any]:
    if not isinstance(body, Mapping):
        raise _bad(None, "the body must be a JSON object")
    for name, value in body.items():
        if value is None or name in known or name in _HARMLESS:
            continue
        if name not in _NEUTRAL:
            raise _bad(name, f"{name} is not known here; leave it out", code="unknown_parameter")
        if not any(value == neutral for neutral in _NEUTRAL[name]):
            raise _bad(
                name, f"{name} is not implemented; leave it out", code="unsupported_parameter"
            )
    return body


def _common(fields: Mapping[str, Any], limit: str) -> dict[str, Any]:
    model = fields.get("model")
    if not isinstance(model, str) or not model:
        raise _bad("model", "model must be the name of the model")
    stream = _flag(fields, "stream")
    options = fields.get("stream_options")
    if options is not None and not stream:
        raise _bad("stream_options", "stream_options needs stream: true")
    if options is not None and not isinstance(options, Mapping):
        raise _bad("stream_options", "stream_options must be an object")
    max_tokens = fields.get(limit)
    params = SamplingParams(
        max_tokens=16 if max_tokens is None else _whole(fields, limit, least=1),
        temperature=_number(fields, "temperature", 1.0, 0.0, 2.0),
        top_p=_top_p(fields),
        seed=None if fields.get("seed") is None else _whole(fields, "seed"),
        stop=_stops(fields),
        ignore_eos=_flag(fields, "ignore_eos"),
    )
    return {
        "model": model,
        "params": params,
        "limited": max_tokens is not None,
        "stream": stream,
        "include_usage": _flag(options or {}, "include_usage", "stream_options."),
    }


def _messages(fields: Mapping[str, Any]) -> tuple[Mapping[str, str], ...]:
    messages = fields.get("messages")
    if not isinstance(messages, list) or not messages:
        raise _bad("messages", "messages must be a list with at least one message")
    return tuple(_message(message, index) for index, message in enumerate(messages))


def _message(message: object, index: int) -> Mapping[str, str]:
    where = f"messages[{index}]"
    if not isinstance(message, Mapping):
        raise _bad(where, f"{where} must be an object with role and content")
    role = message.get("role")
    if role not in _ROLES:
        raise _bad(f"{where}.role", f"{where}.role must be one of {', '.join(sorted(_ROLES))}")
    if message.get("tool_calls"):
        raise _bad(f"{where}.tool_calls", f"{where}.tool_calls is not implemented")
    content = message.get("content")
    if isinstance(content, list):
        content = _joined_parts(content, where)
    if not isinstance(content, str):
        raise _bad(f"{where}.content", f"{where}.content must be text")
    return {"role": "system" if role == "developer" else role, "content": content}


def _joined_parts(parts: list[object], where: str) -> str:
    texts = []
    for part in parts:
        text = (
            part.get("text") if isinstance(part, Mapping) and part.get("type") == "text" else None
        )
        if not isinstance(text, str):
            raise _bad(f"{where}.content", f"{where}.content may hold parts of type text only")
        texts.append(text)
    return "".join(texts)


def _stops(fields: Mapping[str, Any]) -> tuple[str, ...]:
    value = fields.get("stop")
    stops = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(stop, str) and stop for stop in stops):
        raise _bad("stop", "stop must be a non-empty text or a list of them")
    if len(stops) > _MAX_STOPS:
        raise _bad("stop", f"stop may hold at most {_MAX_STOPS} texts")
    return tuple(stops)


def _flag(fields: Mapping[str, Any], name: str, prefix: str = "") -> bool:
    value = fields.get(name)
    if value is not None and not isinstance(value, bool):
        raise _bad(prefix + name, f"{prefix}{name} must be true or false")
    return bool(value)


def _top_p(fields: Mapping[str, Any]) -> float:
    value = _number(fields, "top_p", 1.0, 0.0, 1.0)
    if value == 0:
        raise _bad("top_p", "top_p must be above 0 and at most 1")
    return value


def _number(
    fields: Mapping[str, Any], name: str, default: float, least: float, most: float
) -> float:
    value = fields.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise _bad(name, f"{name} must be a number between {least:g} and {most:g}")
    return float(value)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _whole(fields: Mapping[str, Any], name: str, least: int | None = None) -> int:
    value = fields.get(name)
    if not _is_whole(value) or not -(2**63) <= int(value or 0) < 2**63:
        raise _bad(name, f"{name} must be a whole number")
    number = int(value or 0)
    if least is not None and number < least:
        raise _bad(name, f"{name} must be at least {least}")
    return number


def _bad(param: str | None, message: str, code: str | None = None) -> RequestError:
    return RequestError(message, param=param, code=code)

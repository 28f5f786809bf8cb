"""Validation of chat messages, and their conversion for a chat template."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from r1_runtime.server.api.fields import bad_field

_ROLES = frozenset({"system", "user", "assistant", "developer", "tool"})
# Optional text fields that templates read.
_TEXTS = ("name", "tool_call_id", "reasoning_content", "reasoning")
_NOT_IMPLEMENTED = ("function_call", "audio", "prefix")


_TEXT = {"type": "string"}
_NO_TEXT = {"type": ["string", "null"]}
_PART = {
    "type": "object",
    "properties": {"type": {"const": "text"}, "text": _TEXT},
    "required": ["type", "text"],
}
_CONTENT = {"anyOf": [_TEXT, {"type": "array", "items": _PART}]}
_CALL = {
    "type": "object",
    "properties": {
        "id": _NO_TEXT,
        "type": {"enum": ["function", None]},
        "function": {
            "type": "object",
            "properties": {"name": _TEXT, "arguments": _TEXT},
            "required": ["name"],
        },
    },
    "required": ["function"],
}


def _message_schema(roles: list[str], fields: Mapping[str, Any], needed: list[str]) -> Any:
    texts = dict.fromkeys(_TEXTS, _NO_TEXT)
    unused = {name: {"enum": [None, False]} for name in _NOT_IMPLEMENTED}
    return {
        "type": "object",
        "properties": {"role": {"enum": roles}, **texts, **unused, **fields},
        "required": ["role", *needed],
    }


MESSAGES_SCHEMA: Mapping[str, Any] = {
    "type": "array",
    "minItems": 1,
    "items": {
        "anyOf": [
            _message_schema(
                sorted(_ROLES - {"assistant"}),
                {"content": _CONTENT, "tool_calls": {"enum": [None, []]}},
                ["content"],
            ),
            _message_schema(
                ["assistant"],
                {
                    "content": {"anyOf": [_CONTENT, {"type": "null"}]},
                    "tool_calls": {"anyOf": [{"type": "array", "items": _CALL}, {"type": "null"}]},
                },
                [],
            ),
        ]
    },
}


def parse_messages(messages: object, param: str = "messages") -> tuple[Mapping[str, Any], ...]:
    """Return role, content and tool calls of each message.

    Raises:
        RequestError: 400, naming the field.
    """
    if not isinstance(messages, list) or not messages:
        raise bad_field(param, f"{param} must be a list with at least one message")
    return tuple(parse_message(message, f"{param}[{at}]") for at, message in enumerate(messages))


def parse_message(message: object, where: str) -> Mapping[str, Any]:
    """Return role, content and tool calls of one message, which errors call `where`.

    Raises:
        RequestError: 400, naming the field.
    """
    if not isinstance(message, Mapping):
        raise bad_field(where, f"{where} must be an object with role and content")
    role = message.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise bad_field(f"{where}.role", f"{where}.role must be one of {', '.join(sorted(_ROLES))}")
    calls = _tool_calls(message.get("tool_calls"), f"{where}.tool_calls")
    if calls and role != "assistant":
        raise bad_field(
            f"{where}.tool_calls", f"{where}.tool_calls is allowed for role assistant only"
        )
    for name in _NOT_IMPLEMENTED:
        value = message.get(name)
        if value is not None and value is not False:
            field = f"{where}.{name}"
            raise bad_field(field, f"{field} is not implemented; leave it out")
    content = message.get("content")
    if content is None and role == "assistant" and not calls:
        content = ""  # a refusal, or reasoning alone
    parsed: dict[str, Any] = {
        "role": "system" if role == "developer" else role,
        "content": _content(content, where, optional=bool(calls)),
    }
    for name in _TEXTS:
        value = message.get(name)
        if value is not None:
            if not isinstance(value, str):
                raise bad_field(f"{where}.{name}", f"{where}.{name} must be text")
            parsed[name] = value
    return parsed | ({"tool_calls": calls} if calls else {})


def _content(content: object, where: str, *, optional: bool) -> str | None:
    """Content as one string; a message with tool calls may have none."""
    if isinstance(content, list):
        content = _joined_parts(content, where)
    if not isinstance(content, str) and not (content is None and optional):
        raise bad_field(f"{where}.content", f"{where}.content must be text")
    return content


def _joined_parts(parts: list[object], where: str) -> str:
    texts = []
    for part in parts:
        text = (
            part.get("text") if isinstance(part, Mapping) and part.get("type") == "text" else None
        )
        if not isinstance(text, str):
            raise bad_field(f"{where}.content", f"{where}.content may have parts of type text only")
        texts.append(text)
    return "".join(texts)


def _tool_calls(calls: object, where: str) -> list[dict[str, Any]]:
    if calls is None:
        return []
    if not isinstance(calls, list):
        raise bad_field(where, f"{where} must be a list")
    return [_tool_call(call, f"{where}[{at}]") for at, call in enumerate(calls)]


def _tool_call(call: object, where: str) -> dict[str, Any]:
    if not isinstance(call, Mapping) or call.get("type") not in (None, "function"):
        raise bad_field(where, f"{where} must be an object of type function")
    function = call.get("function")
    if not isinstance(function, Mapping):
        raise bad_field(f"{where}.function", f"{where}.function must be an object")
    texts = {"name": function.get("name"), "arguments": function.get("arguments", "")}
    for name, value in texts.items():
        if not isinstance(value, str):
            field = f"{where}.function.{name}"
            raise bad_field(field, f"{field} must be text")
    call_id = call.get("id")
    if call_id is not None and not isinstance(call_id, str):
        raise bad_field(f"{where}.id", f"{where}.id must be text")
    return {"type": "function", "function": texts} | ({} if call_id is None else {"id": call_id})

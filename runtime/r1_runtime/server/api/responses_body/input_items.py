"""Input items of `/v1/responses`, and their conversion to chat messages.

A turn of the model is several items (reasoning, message, function calls) and one chat message.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from r1_runtime.server.api.fields import bad_field, conflict
from r1_runtime.server.api.messages import parse_message

_TEXT_PARTS = ("input_text", "output_text", "text", "refusal")
_REASONING_PARTS = ("reasoning_text", "summary_text")
_TEXT = {"type": "string"}
_ROLES = ("user", "assistant", "system", "developer")


def _item_schema(kind: str, fields: Mapping[str, Any], needed: tuple[str, ...]) -> Any:
    """The schema of an item; a message needs no type."""
    return {
        "type": "object",
        "properties": {"type": {"const": kind}, **fields},
        "required": [*needed] if kind == "message" else ["type", *needed],
    }


def _texts_schema(kinds: tuple[str, ...]) -> Any:
    """The schema of text or of parts with text."""
    part = {
        "type": "object",
        "properties": {"type": {"enum": list(kinds)}, "text": _TEXT},
        "required": ["type", "text"],
    }
    return {"anyOf": [_TEXT, {"type": "array", "items": part}]}


_NAME = {"type": "string", "minLength": 1}
_PLAIN_PARTS = ("input_text", "output_text", "text")
_NO_PARTS = {"anyOf": [_texts_schema(_REASONING_PARTS), {"type": "null"}]}
_ITEM = {
    "anyOf": [
        _item_schema(
            "message",
            {"role": {"enum": list(_ROLES)}, "content": _texts_schema(_PLAIN_PARTS)},
            ("role", "content"),
        ),
        _item_schema(
            "function_call",
            {"call_id": _NAME, "name": _NAME, "arguments": _TEXT},
            ("call_id", "name", "arguments"),
        ),
        _item_schema(
            "function_call_output",
            {"call_id": _NAME, "output": _texts_schema(_PLAIN_PARTS)},
            ("call_id", "output"),
        ),
        _item_schema("reasoning", {"summary": _NO_PARTS, "content": _NO_PARTS}, ()),
    ]
}
INPUT_SCHEMA: Mapping[str, Any] = {
    "anyOf": [_TEXT, {"type": "array", "minItems": 1, "items": _ITEM}]
}


def read_input(value: object, param: str) -> tuple[Mapping[str, Any], ...]:
    """Text, or a list of items, as chat messages.

    Raises:
        RequestError: 400, naming the item and the field.
    """
    if isinstance(value, str):
        return ({"role": "user", "content": value},)
    if not isinstance(value, list) or not value:
        raise bad_field(param, f"{param} must be text or a list with at least one item")
    conversation = _Conversation()
    for at, item in enumerate(value):
        _read_item(item, f"{param}[{at}]", conversation)
    return tuple(conversation.messages)


class _Conversation:
    """Chat messages so far. Items of one turn of the model are joined."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.call_ids: set[str] = set()
        self._turn: dict[str, Any] | None = None  # the turn that further items belong to

    def add(self, message: Mapping[str, Any]) -> None:
        """Add a message of its own, or the text of the current turn."""
        if message["role"] != "assistant":
            self._turn = None
            self.messages.append(dict(message))
            return
        turn = self._turn
        if turn is None or turn["content"] or "tool_calls" in turn:
            turn = self._begin_turn()
        turn.update(message)

    def add_reasoning(self, text: str) -> None:
        """Reasoning begins a turn, or continues that of the current one."""
        turn = self._turn
        if turn is None or turn["content"] or "tool_calls" in turn:
            turn = self._begin_turn()
        turn["reasoning_content"] = turn.get("reasoning_content", "") + text

    def add_call(self, call: Mapping[str, Any]) -> None:
        turn = self._turn or self._begin_turn()
        turn.setdefault("tool_calls", []).append(call)
        turn["content"] = turn["content"] or None
        self.call_ids.add(call["id"])

    def _begin_turn(self) -> dict[str, Any]:
        self._turn = {"role": "assistant", "content": ""}
        self.messages.append(self._turn)
        return self._turn


def _read_item(item: object, where: str, conversation: _Conversation) -> None:
    if not isinstance(item, Mapping):
        raise bad_field(where, f"{where} must be an object")
    kind = "message" if item.get("type") is None else item["type"]
    read = _READERS.get(kind) if isinstance(kind, str) else None
    if read is None:
        field = f"{where}.type"
        reason = "; nothing is stored: send the item itself" if kind == "item_reference" else ""
        raise bad_field(field, f"{field} must be one of {', '.join(_READERS)}{reason}")
    read(item, where, conversation)


def _read_message(item: Mapping[str, Any], where: str, conversation: _Conversation) -> None:
    if item.get("role") not in _ROLES:
        field = f"{where}.role"
        raise bad_field(field, f"{field} must be one of {', '.join(_ROLES)}")
    text = _joined(item.get("content"), f"{where}.content", _TEXT_PARTS)
    conversation.add(parse_message({"role": item["role"], "content": text}, where))


def _read_call(item: Mapping[str, Any], where: str, conversation: _Conversation) -> None:
    names = ("call_id", "name", "arguments")
    call_id, name, arguments = (_text(item, each, where) for each in names)
    function = {"name": name, "arguments": arguments}
    conversation.add_call({"type": "function", "function": function, "id": call_id})


def _read_call_output(item: Mapping[str, Any], where: str, conversation: _Conversation) -> None:
    call_id = _text(item, "call_id", where)
    if call_id not in conversation.call_ids:
        field = f"{where}.call_id"
        raise conflict(
            field,
            f"{field} is {call_id[:64]!r}, and no function_call before it has this call_id; nothing "
            "is stored: send the function_call item too",
        )
    text = _joined(item.get("output"), f"{where}.output", _TEXT_PARTS)
    conversation.add({"role": "tool", "content": text, "tool_call_id": call_id})


def _read_reasoning(item: Mapping[str, Any], where: str, conversation: _Conversation) -> None:
    for name in ("content", "summary"):
        parts = item.get(name)
        if parts:
            conversation.add_reasoning(_joined(parts, f"{where}.{name}", _REASONING_PARTS))
            return


_READERS: Mapping[str, Callable[[Mapping[str, Any], str, _Conversation], None]] = {
    "message": _read_message,
    "function_call": _read_call,
    "function_call_output": _read_call_output,
    "reasoning": _read_reasoning,
}


def _text(item: Mapping[str, Any], name: str, where: str) -> str:
    value, field = item.get(name), f"{where}.{name}"
    if not isinstance(value, str) or (not value and name != "arguments"):
        raise bad_field(field, f"{field} must be text and not empty")
    return value


def _joined(value: object, where: str, kinds: tuple[str, ...]) -> str:
    """Text, or a list of parts with text, as one text."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise bad_field(where, f"{where} must be text or a list of parts")
    return "".join(_part_text(part, f"{where}[{at}]", kinds) for at, part in enumerate(value))


def _part_text(part: object, where: str, kinds: tuple[str, ...]) -> str:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if not isinstance(part, Mapping) or kind not in kinds:
        raise bad_field(f"{where}.type", f"{where}.type must be one of {', '.join(kinds)}")
    text = part.get("refusal" if kind == "refusal" else "text")
    if not isinstance(text, str):
        raise bad_field(f"{where}.text", f"{where}.text must be text")
    return text

"""One item of a response: reasoning, a message, or a function call, with its events."""

from __future__ import annotations

from typing import Any

from r1_runtime.server.output.builder import call_id

REASONING, MESSAGE, CALL = "reasoning", "message", "function_call"
# Name of an event, and its fields without the place of the item.
ItemEvent = tuple[str, dict[str, Any]]
_PREFIXES = {REASONING: "rs_", MESSAGE: "msg_", CALL: "fc_"}
_EVENTS = {
    REASONING: "response.reasoning_text",
    MESSAGE: "response.output_text",
    CALL: "response.function_call_arguments",
}
_PARTS = {REASONING: "reasoning_text", MESSAGE: "output_text"}


class Item:
    """An item that grows until `end`.

    Args:
        kind: `REASONING`, `MESSAGE` or `CALL`.
        key: unique among all items of all responses.
        name: the function of a call.
    """

    def __init__(self, kind: str, key: str, name: str = "") -> None:
        self.kind = kind
        self.ended = False
        self._id = _PREFIXES[kind] + key
        self._status = "in_progress"
        self._text = ""
        self._call = {"call_id": call_id(), "name": name} if kind == CALL else {}

    def begin(self) -> list[ItemEvent]:
        """The events that announce the item, which is still empty."""
        added = ("response.output_item.added", {"item": self.as_json()})
        if self.kind == CALL:
            return [added]
        return [added, ("response.content_part.added", self._place() | {"part": self._part()})]

    def add(self, text: str) -> ItemEvent:
        """Add text, or text of a call's arguments."""
        self._text += text
        return f"{_EVENTS[self.kind]}.delta", self._place() | {"delta": text} | self._logprobs()

    def end(self, status: str) -> list[ItemEvent]:
        """The events of the whole item; `status` is `completed` or `incomplete`."""
        self.ended = True
        name = f"{_EVENTS[self.kind]}.done"
        events: list[ItemEvent]
        if self.kind == CALL:
            done = {"name": self._call["name"], "arguments": self._text}
            events = [(name, self._place() | done)]
        else:
            part = {"part": self._part()}
            events = [
                (name, self._place() | {"text": self._text} | self._logprobs()),
                ("response.content_part.done", self._place() | part),
            ]
        self._status = status
        return [*events, ("response.output_item.done", {"item": self.as_json()})]

    def as_json(self) -> dict[str, Any]:
        """The item; while it grows, without its text."""
        item: dict[str, Any] = {"id": self._id, "type": self.kind, "status": self._status}
        if self.kind == CALL:
            return item | self._call | {"arguments": self._text if self.ended else ""}
        item["content"] = [self._part()] if self.ended else []
        if self.kind == MESSAGE:
            return item | {"role": "assistant"}
        return item | {"summary": []}

    def _place(self) -> dict[str, Any]:
        place: dict[str, Any] = {"item_id": self._id}
        return place if self.kind == CALL else place | {"content_index": 0}

    def _part(self) -> dict[str, Any]:
        part: dict[str, Any] = {"type": _PARTS[self.kind], "text": self._text}
        if self.kind == MESSAGE:
            part["annotations"] = []
        return part | self._logprobs()

    def _logprobs(self) -> dict[str, Any]:
        return {"logprobs": []} if self.kind == MESSAGE else {}

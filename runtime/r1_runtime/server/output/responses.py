"""Objects and events of `/v1/responses`: the items of one turn of the model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from r1_runtime.engine.messages import Output
from r1_runtime.engine.sequence import Finish
from r1_runtime.output_parsing.delta import Delta, OutputParser
from r1_runtime.server.api.responses_body.body import ResponsesRequest
from r1_runtime.server.output.builder import Event, Head
from r1_runtime.server.output.parsed_output import parsed_output
from r1_runtime.server.output.response_items import CALL, MESSAGE, REASONING, Item, ItemEvent
from r1_runtime.server.output.usage import UsageCounter


class ResponsesBuilder:
    """Objects of one response.

    Args:
        head: identifier, model and time.
        request: parameters that the response repeats, and the tools.
        parser: separates reasoning and calls from the text.
    """

    ends_with_done = False

    def __init__(self, head: Head, request: ResponsesRequest, parser: OutputParser) -> None:
        self._head = head
        self._request = request
        self._parser = parser
        self._number = 0  # of the next event
        self._items: list[Item] = []
        self._call = -1  # number of the last call
        self._finish = Finish.STOP
        self._begun = False

    def events(self, index: int, output: Output, usage: UsageCounter) -> list[Event]:
        return list(self._events(output))

    def last_events(self, usage: UsageCounter) -> list[Event]:
        events = list(self._end_item())
        name = "response.completed" if self._finish is Finish.STOP else "response.incomplete"
        return [*events, self._event(name, {"response": self._object(self._status(), usage)})]

    def full(self, outputs: list[Output], usage: UsageCounter) -> dict[str, Any]:
        for _ in self._events(outputs[0]):
            pass  # collects the items
        for _ in self._end_item():
            pass
        return self._object(self._status(), usage)

    def _events(self, output: Output) -> Iterator[Event]:
        if not self._begun:
            self._begun = True
            for name in ("response.created", "response.in_progress"):
                yield self._event(name, {"response": self._object("in_progress", None)})
        delta = parsed_output(self._parser, output, self._request.generation)
        if output.finish is not None:
            self._finish = output.finish
        yield from self._delta_events(delta)
        if output.finish is not None and all(item.kind == REASONING for item in self._items):
            yield from self._begin_item(MESSAGE)

    def _delta_events(self, delta: Delta) -> Iterator[Event]:
        for kind, text in ((REASONING, delta.reasoning), (MESSAGE, delta.content)):
            if text:
                if not self._items or self._items[-1].kind != kind:
                    yield from self._begin_item(kind)
                yield self._item_event(self._items[-1].add(text))
        for call in delta.calls:
            if call.index != self._call:
                self._call = call.index
                yield from self._begin_item(CALL, call.name or "")
            if call.arguments:
                yield self._item_event(self._items[-1].add(call.arguments))

    def _begin_item(self, kind: str, name: str = "") -> Iterator[Event]:
        yield from self._end_item()
        key = f"{self._head.id.removeprefix('resp_')}{len(self._items)}"
        self._items.append(Item(kind, key, name))
        yield from map(self._item_event, self._items[-1].begin())

    def _end_item(self) -> Iterator[Event]:
        if self._items and not self._items[-1].ended:
            yield from map(self._item_event, self._items[-1].end(self._status()))

    def _item_event(self, event: ItemEvent) -> Event:
        name, fields = event
        return self._event(name, {"output_index": len(self._items) - 1} | fields)

    def _event(self, name: str, fields: dict[str, Any]) -> Event:
        number, self._number = self._number, self._number + 1
        return Event({"type": name, "sequence_number": number} | fields, name)

    def _status(self) -> str:
        return "completed" if self._finish is Finish.STOP else "incomplete"

    def _object(self, status: str, usage: UsageCounter | None) -> dict[str, Any]:
        incomplete = {"reason": "max_output_tokens"} if status == "incomplete" else None
        return {
            "id": self._head.id,
            "object": "response",
            "created_at": self._head.created,
            "status": status,
            "error": None,
            "incomplete_details": incomplete,
            "model": self._head.model,
            "output": [item.as_json() for item in self._items] if usage is not None else [],
            "usage": None if usage is None else _usage(usage),
            **self._request.echoed,
        }


def _usage(usage: UsageCounter) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }

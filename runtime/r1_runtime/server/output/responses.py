"""Objects and events of `/v1/responses`: reasoning items and one message."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from r1_runtime.engine.messages import Output
from r1_runtime.engine.sequence import Finish
from r1_runtime.output_parsing.delta import Delta, OutputParser
from r1_runtime.server.api.responses import ResponsesRequest
from r1_runtime.server.output.builder import Event, Head
from r1_runtime.server.output.usage import UsageCounter

_REASONING, _MESSAGE = "reasoning", "message"
# Names in events and objects: kind of item -> (events, kind of part).
_PART_NAMES = {
    _REASONING: ("response.reasoning_text", "reasoning_text"),
    _MESSAGE: ("response.output_text", "output_text"),
}


class ResponsesBuilder:
    """Objects of one response.

    Args:
        head: identifier, model and time.
        request: parameters that the response repeats.
        parser: separates reasoning from the text.
    """

    ends_with_done = False

    def __init__(self, head: Head, request: ResponsesRequest, parser: OutputParser) -> None:
        self._head = head
        self._request = request
        self._parser = parser
        self._number = 0  # of the next event
        self._items: list[dict[str, Any]] = []
        self._texts: list[str] = []
        self._finish = Finish.STOP
        self._begun = False

    def events(self, index: int, output: Output, usage: UsageCounter) -> list[Event]:
        return list(self._events(output))

    def last_events(self, usage: UsageCounter) -> list[Event]:
        events = list(self._end_item())
        name = "response.completed" if self._finish is Finish.STOP else "response.incomplete"
        return [*events, self._event(name, response=self._object(self._status(), usage))]

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
                yield self._event(name, response=self._object("in_progress", None))
        delta = self._parser.push(output.text)
        if output.finish is not None:
            delta += self._parser.finish()
            self._finish = output.finish
        yield from self._text_events(delta)
        if output.finish is not None and not any(one["type"] == _MESSAGE for one in self._items):
            yield from self._end_item()
            yield from self._begin_item(_MESSAGE)

    def _text_events(self, delta: Delta) -> Iterator[Event]:
        for kind, text in ((_REASONING, delta.reasoning), (_MESSAGE, delta.content)):
            if not text:
                continue
            if not self._items or self._items[-1]["type"] != kind:
                yield from self._end_item()
                yield from self._begin_item(kind)
            self._texts[-1] += text
            more: dict[str, Any] = {"logprobs": []} if kind == _MESSAGE else {}
            yield self._part_event(f"{_PART_NAMES[kind][0]}.delta", delta=text, **more)

    def _begin_item(self, kind: str) -> Iterator[Event]:
        prefix = "msg_" if kind == _MESSAGE else "rs_"
        item: dict[str, Any] = {
            "id": f"{prefix}{self._head.id.removeprefix('resp_')}",
            "type": kind,
            "status": "in_progress",
            "content": [],
        }
        if kind == _MESSAGE:
            item["role"] = "assistant"
        else:
            item["summary"] = []
        self._items.append(item)
        self._texts.append("")
        place = len(self._items) - 1
        yield self._event("response.output_item.added", output_index=place, item=dict(item))
        yield self._part_event("response.content_part.added", part=self._part())

    def _end_item(self) -> Iterator[Event]:
        if not self._items or self._items[-1]["status"] != "in_progress":
            return
        item, text = self._items[-1], self._texts[-1]
        more: dict[str, Any] = {"logprobs": []} if item["type"] == _MESSAGE else {}
        yield self._part_event(f"{_PART_NAMES[item['type']][0]}.done", text=text, **more)
        yield self._part_event("response.content_part.done", part=self._part())
        item["content"] = [self._part()]
        item["status"] = "completed" if self._finish is Finish.STOP else "incomplete"
        place = len(self._items) - 1
        yield self._event("response.output_item.done", output_index=place, item=dict(item))

    def _part(self) -> dict[str, Any]:
        """The content of the current item."""
        kind = self._items[-1]["type"]
        part: dict[str, Any] = {"type": _PART_NAMES[kind][1], "text": self._texts[-1]}
        return part | ({"annotations": [], "logprobs": []} if kind == _MESSAGE else {})

    def _part_event(self, name: str, **fields: Any) -> Event:
        item = self._items[-1]
        place = len(self._items) - 1
        return self._event(name, item_id=item["id"], output_index=place, content_index=0, **fields)

    def _event(self, name: str, **fields: Any) -> Event:
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
            "output": [dict(item) for item in self._items] if usage is not None else [],
            "usage": None if usage is None else _usage(usage),
            **self._request.echoed,
        }


def _usage(usage: UsageCounter) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }

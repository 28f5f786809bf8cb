"""Parts of an assistant's message, as a parser finds them in a stream of text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A part of one tool call.

    Attributes:
        index: number of the call in the message.
        name: the function, with the first part only.
        arguments: further text of the arguments, which are JSON.
    """

    index: int
    name: str | None = None
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class Delta:
    """New text of the message and of its reasoning, and parts of tool calls."""

    content: str = ""
    reasoning: str = ""
    calls: tuple[ToolCallDelta, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.content or self.reasoning or self.calls)

    def __add__(self, other: Delta) -> Delta:
        return Delta(
            self.content + other.content,
            self.reasoning + other.reasoning,
            join_calls((*self.calls, *other.calls)),
        )


def join_calls(calls: tuple[ToolCallDelta, ...]) -> tuple[ToolCallDelta, ...]:
    """Adjacent parts of the same call as one part."""
    joined: list[ToolCallDelta] = []
    for call in calls:
        last = joined[-1] if joined else None
        if last is not None and last.index == call.index and call.name is None:
            joined[-1] = ToolCallDelta(last.index, last.name, last.arguments + call.arguments)
        else:
            joined.append(call)
    return tuple(joined)


class OutputParser(Protocol):
    """Splits a text into deltas. The sum of the deltas depends on no chunk border."""

    def push(self, text: str) -> Delta:
        """Add text."""

    def finish(self) -> Delta:
        """The buffered rest, at the end of the text."""


class PlainText:
    """All text is content."""

    def push(self, text: str) -> Delta:
        return Delta(text)

    def finish(self) -> Delta:
        return Delta()

"""What a handler needs of the objects of an endpoint."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any, Protocol

from r1_runtime.engine.messages import Output
from r1_runtime.server.output.usage import UsageCounter


def call_id() -> str:
    """A new identifier of a tool call."""
    return f"call_{uuid.uuid4().hex[:24]}"


@dataclass(frozen=True, slots=True)
class Head:
    """Fields that all objects of one response share."""

    id: str
    model: str
    created: int

    def object(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }


@dataclass(frozen=True, slots=True)
class Event:
    """A server-sent event: its data, and its name where the endpoint names events."""

    data: dict[str, Any]
    name: str | None = None


class ResponseBuilder(Protocol):
    """Builds the response of one request.

    A stream calls `events` for each output in order, then `last_events`; a full response calls
    `full` once with the whole outputs.
    """

    ends_with_done: bool  # whether the stream's last line is `data: [DONE]`

    def events(self, index: int, output: Output, usage: UsageCounter) -> list[Event]:
        """Events of new output of choice `index`."""

    def last_events(self, usage: UsageCounter) -> list[Event]:
        """Events after the end of all outputs."""

    def full(self, outputs: list[Output], usage: UsageCounter) -> dict[str, Any]:
        """The body of a response that is not a stream."""

"""What goes into the engine and what comes out: plain values, known to both threads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from r1_runtime.engine.sequence import Finish, SamplingParams


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be generated."""

    id: str
    prompt: tuple[int, ...]
    params: SamplingParams
    arrived: float  # seconds, `time.monotonic`
    urgency: int = 1  # the smaller, the sooner its prompt is computed


@dataclass(frozen=True, slots=True)
class Timing:
    """A finished request's moments, in seconds of `time.monotonic`."""

    arrived: float
    scheduled: float | None
    first_token: float | None
    finished: float


@dataclass(frozen=True, slots=True)
class Output:
    """What a step added to one request."""

    request_id: str
    text: str
    new_tokens: int
    generated: int  # in all so far
    first_after: float | None = None  # seconds from arrival, with the first token only
    finish: Finish | None = None
    timing: Timing | None = None  # with the last output
    error: str | None = None


@dataclass(frozen=True, slots=True)
class EngineState:
    """What the engine looked like after a step."""

    running: int = 0
    waiting: int = 0
    cache_usage: float = 0.0
    preemptions: int = 0
    step_tokens: int = 0


Deliver = Callable[[list[Output], EngineState], None]

"""Inputs and outputs of the engine: plain values that both threads use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from r1_runtime.engine.sequence import Finish, SamplingParams


@dataclass(frozen=True, slots=True)
class Request:
    """A request for generation."""

    id: str
    prompt: tuple[int, ...]
    params: SamplingParams
    arrived: float  # seconds, `time.monotonic`
    priority: int = 1  # the smaller, the sooner its prompt is computed


@dataclass(frozen=True, slots=True)
class Timing:
    """Timestamps of a finished request, in seconds of `time.monotonic`."""

    arrived: float
    scheduled: float | None
    first_token: float | None
    finished: float


@dataclass(frozen=True, slots=True)
class Output:
    """New output of one request after a step."""

    request_id: str
    text: str
    new_tokens: int
    generated: int  # tokens so far
    time_to_first_token: float | None = None  # seconds from arrival, with the first token only
    finish: Finish | None = None
    timing: Timing | None = None  # with the last output
    error: str | None = None


@dataclass(frozen=True, slots=True)
class EngineState:
    """State of the engine after a step."""

    running: int = 0
    waiting: int = 0
    cache_usage: float = 0.0
    preemptions: int = 0
    step_tokens: int = 0


Deliver = Callable[[list[Output], EngineState], None]

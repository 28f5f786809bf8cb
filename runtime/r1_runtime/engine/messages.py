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
    cache_salt: str | None = None  # only requests of the same salt share cached prefixes


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
    cached_tokens: int = 0  # prompt tokens found in the prefix cache


@dataclass(frozen=True, slots=True)
class EngineState:
    """State of the engine after a step. Counters never decrease."""

    running: int = 0
    waiting: int = 0
    cache_usage: float = 0.0
    preemptions: int = 0
    step_tokens: int = 0
    prefix_cache_queries: int = 0  # prompt tokens of admitted requests
    prefix_cache_hits: int = 0  # those of them that were in the cache


Deliver = Callable[[list[Output], EngineState], None]

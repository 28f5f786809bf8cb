"""Runs a scheduler on a virtual clock: arrivals, step durations, and counts of what was computed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from collections.abc import Sequence as Rows
from dataclasses import dataclass, field

from r1_runtime.engine.sampling_params import SamplingParams
from r1_runtime.engine.scheduler import Scheduler, Step
from r1_runtime.engine.sequence import Finish, Sequence


@dataclass(frozen=True)
class SimulatedRequest:
    """A request with a known output length; `limit` is its `max_tokens`."""

    prompt: int
    output: int
    limit: int
    arrival: float = 0.0
    priority: int = 1


@dataclass
class SimulationResult:
    """Counts and times of a simulation."""

    steps: list[tuple[Step, float]] = field(default_factory=list)  # with its seconds
    finished: dict[str, float] = field(default_factory=dict)  # seconds of each request's end
    computed: int = 0
    needed: int = 0

    @property
    def recomputed(self) -> float:
        """Tokens computed more than once, relative to the tokens needed."""
        return self.computed / self.needed - 1


def is_mixed(step: Step) -> bool:
    """Whether a step has both a decode chunk and a prefill chunk."""
    kinds = {chunk.count == 1 and chunk.start > 0 for chunk in step.chunks}
    return len(kinds) == 2


def attended(step: Step) -> int:
    """Cache entries that the rows of a step read."""
    return sum(
        chunk.count * chunk.start + chunk.count * (chunk.count + 1) // 2 for chunk in step.chunks
    )


def simulate(
    engine: Scheduler,
    requests: Rows[SimulatedRequest],
    seconds_of: Callable[[Step], float] = lambda step: 1.0,
    observe: Callable[[Step, float], None] | None = None,
    *,
    check: bool = True,
) -> SimulationResult:
    """Run all requests to their ends; fails when the scheduler stands still or loses one."""
    result = SimulationResult()
    pending = sorted(enumerate(requests), key=lambda pair: pair[1].arrival)
    result.needed = sum(request.prompt + request.output - 1 for request in requests)
    now = 0.0
    while pending or not engine.idle:
        if engine.idle:
            now = max(now, pending[0][1].arrival)
        while pending and pending[0][1].arrival <= now:
            index, request = pending.pop(0)
            engine.add(_sequence(index, request, now))
        step = engine.schedule(now)
        assert step.chunks, "the scheduler stands still"
        if check:
            engine.check_integrity()
        seconds = seconds_of(step)
        now += seconds
        result.steps.append((step, seconds))
        result.computed += step.tokens
        engine.advance(step)
        if observe is not None:
            observe(step, seconds)
        for one in _sampling(step):
            request = requests[int(one.id)]
            one.tokens.append(-1 - int(one.id))
            if one.generated == request.output:
                full = request.output == request.limit
                engine.finish(one, Finish.LENGTH if full else Finish.STOP)
                result.finished[one.id] = now
        if check:
            engine.check_integrity()
    assert len(result.finished) == len(requests)
    return result


def _sampling(step: Step) -> Iterable[Sequence]:
    return [chunk.sequence for chunk in step.chunks if chunk.samples]


def _sequence(index: int, request: SimulatedRequest, now: float) -> Sequence:
    # No two requests share a prefix.
    first = 100_000 * (index + 1)
    return Sequence(
        str(index),
        list(range(first, first + request.prompt)),
        request.prompt,
        SamplingParams(max_tokens=request.limit),
        now,
        priority=request.priority,
    )

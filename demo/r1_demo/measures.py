"""What is told at the end: of requests, of replicas, and of what reactive scaling would have done.

Overload is the share of requests that arrive while demand exceeds what the ready replicas take:
computed for what really ran and for the imagined autoscaler by the same formula on the same
arrivals, the one with the replicas that were ready, the other with a start-up time like ours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from r1_demo.load_generator import RequestOutcome
from r1_operator.plan.scaling.hpa_simulation import HpaRules, HpaState, simulate_sync

SMOOTH_SECONDS = 5


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """One class of one resource: requests, what became of them, and milliseconds to first token."""

    name: str
    requests: int
    completed: int
    rejected: int
    failed: int
    p50_ms: float | None
    p99_ms: float | None


@dataclass(frozen=True, slots=True)
class ReplicaCost:
    """Replica-minutes paid, and the share of requests that met too few ready replicas."""

    replica_minutes: float
    overload: float


def quantile(values: Sequence[float], share: float) -> float | None:
    """Return the value at `share` (0 to 1), nearest rank; None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, math.ceil(share * len(ordered)) - 1))]


def class_figures(name: str, outcomes: Sequence[RequestOutcome]) -> ClassFigures:
    """Return the figures of some outcomes."""
    waits = [o.first_token_ms for o in outcomes if o.completed and o.first_token_ms is not None]
    return ClassFigures(
        name,
        len(outcomes),
        sum(o.completed for o in outcomes),
        sum(o.rejected for o in outcomes),
        sum(o.failed for o in outcomes),
        quantile(waits, 0.5),
        quantile(waits, 0.99),
    )


def by_class(outcomes: Sequence[RequestOutcome]) -> list[ClassFigures]:
    """Return the figures of each class, and of requests that name none."""
    names = sorted({o.klass or "-" for o in outcomes})
    return [
        class_figures(name, [o for o in outcomes if (o.klass or "-") == name]) for name in names
    ]


def per_second(samples: Sequence[float], seconds: int) -> list[float]:
    """Return arrivals in each second of the play."""
    counts = [0.0] * seconds
    for at in samples:
        if 0 <= at < seconds:
            counts[int(at)] += 1
    return counts


def smoothed(counts: Sequence[float], width: int = SMOOTH_SECONDS) -> list[float]:
    """Return the centred running mean: the rate that noise rides on."""
    half = width // 2
    means = []
    for index in range(len(counts)):
        window = counts[max(0, index - half) : index + half + 1]
        means.append(sum(window) / len(window))
    return means


def cost_of(
    replicas: Sequence[int], ready: Sequence[int], counts: Sequence[float], capacity: float
) -> ReplicaCost:
    """Return cost and overload of replica counts by the second."""
    rates = smoothed(counts)
    finished = sum(
        count
        for count, rate, serving in zip(counts, rates, ready, strict=True)
        if rate > serving * capacity
    )
    total = sum(counts)
    return ReplicaCost(sum(replicas) / 60, finished / total if total else 0.0)


@dataclass(frozen=True, slots=True)
class SimulatedHpa:
    """The imagined autoscaler's run, by the second."""

    replicas: list[int]
    ready: list[int]


def simulate_hpa(
    counts: Sequence[float],
    capacity: float,
    utilization: float,
    bounds: tuple[int, int],
    start_seconds: float,
    down_window: float,
    first: int = 1,
    hold: float = 0.0,
    signal: Mapping[str, float] | None = None,
) -> SimulatedHpa:
    """Return what a HorizontalPodAutoscaler would have run on the same arrivals.

    It begins with `first` replicas and keeps them for `hold` seconds, as ours did.
    It sees the mean of `window` seconds that is `delay` seconds old, as metrics pipelines do
    (15 s each unless told); `down_window` is the one our own policy was given, and its replicas
    start in the time that ours took.
    """
    seen = {"window": 15.0, "delay": 15.0} | dict(signal or {})
    window, delay = round(seen["window"]), round(seen["delay"])
    state = HpaState(max(first, bounds[0]))
    replicas: list[int] = []
    ready: list[int] = []
    starts: list[float] = []  # when each replica beyond those already serving will serve
    serving = state.replicas
    for second in range(len(counts)):
        newest = second - delay
        past = counts[max(0, newest - window) : max(0, newest)]
        demand = sum(past) / len(past) if past else None
        low = max(bounds[0], first) if second < hold else bounds[0]
        state = simulate_sync(
            state,
            demand,
            capacity * utilization,
            low,
            bounds[1],
            float(second),
            HpaRules(down_window=down_window),
        )
        serving += sum(at <= second for at in starts)
        starts = [at for at in starts if at > second]
        while serving + len(starts) < state.replicas:
            starts.append(second + start_seconds)
        while serving + len(starts) > state.replicas:  # those that do not serve yet go first
            if starts:
                starts.pop()
            else:
                serving -= 1
        replicas.append(state.replicas)
        ready.append(serving)
    return SimulatedHpa(replicas, ready)

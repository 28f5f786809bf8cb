"""Figures of a run: requests, replicas, and a simulated HPA on the same arrivals.

Overload is the share of requests that arrive while demand exceeds the capacity of the ready
replicas. One formula gives it for the run (from the ready replicas) and for the simulated HPA
(from its replicas, with the measured start-up time).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from r1_demo.load.load_generator import RequestOutcome
from r1_operator.plan.scaling.hpa_simulation import HpaRules, HpaState, simulate_sync

SMOOTH_SECONDS = 5
HPA_TARGETS = tuple(percent / 100 for percent in range(20, 101))
"""Target utilisations that are searched for the HPA of equal service and of equal cost."""


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """Requests of one class by outcome, and their time to first token in ms."""

    name: str
    requests: int
    completed: int
    rejected: int
    failed: int
    p50_ms: float | None
    p99_ms: float | None


@dataclass(frozen=True, slots=True)
class ReplicaCost:
    """Replica-minutes paid, and the share of requests that arrived under overload."""

    replica_minutes: float
    overload: float


def quantile(values: Sequence[float], share: float) -> float | None:
    """Return the nearest-rank quantile at `share` (0 to 1); None without values."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, math.ceil(share * len(ordered)) - 1))]


def class_figures(name: str, outcomes: Sequence[RequestOutcome]) -> ClassFigures:
    """Return the figures of a set of outcomes."""
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
    """Return the figures of each class; `-` stands for requests without a class."""
    names = sorted({o.klass or "-" for o in outcomes})
    return [
        class_figures(name, [o for o in outcomes if (o.klass or "-") == name]) for name in names
    ]


def per_second(samples: Sequence[float], seconds: int) -> list[float]:
    """Return the arrivals in each second of the run."""
    counts = [0.0] * seconds
    for at in samples:
        if 0 <= at < seconds:
            counts[int(at)] += 1
    return counts


def smoothed(counts: Sequence[float], width: int = SMOOTH_SECONDS) -> list[float]:
    """Return the centred running mean."""
    half = width // 2
    means = []
    for index in range(len(counts)):
        window = counts[max(0, index - half) : index + half + 1]
        means.append(sum(window) / len(window))
    return means


def cost_of(
    replicas: Sequence[int], ready: Sequence[int], counts: Sequence[float], capacity: float
) -> ReplicaCost:
    """Return cost and overload of per-second replica counts."""
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
    """Replicas of a simulated HPA, by the second."""

    replicas: list[int]
    ready: list[int]


@dataclass(frozen=True, slots=True)
class HpaRun:
    """A simulated HPA at one target utilisation, with its cost and overload."""

    target: float
    cost: ReplicaCost
    run: SimulatedHpa


@dataclass(frozen=True, slots=True)
class HpaComparison:
    """Simulated HPAs to compare a run with.

    `equal_service` is the cheapest HPA with at most the run's overload, `equal_cost` the HPA with
    the least overload for at most the run's replica-minutes. None: no target of `HPA_TARGETS` fits.
    `best_service` is the cheapest HPA with the least overload of all targets.
    """

    same_target: HpaRun
    equal_service: HpaRun | None
    equal_cost: HpaRun | None
    best_service: HpaRun


def compare_with_hpa(
    cost: ReplicaCost,
    target: float,
    simulate: Callable[[float], SimulatedHpa],
    counts: Sequence[float],
    capacity: float,
) -> HpaComparison:
    """Search the HPA targets for equal service and for equal cost.

    `simulate` returns the HPA's replicas at a target utilisation on the same arrivals.
    """

    def at(utilization: float) -> HpaRun:
        run = simulate(utilization)
        return HpaRun(utilization, cost_of(run.replicas, run.ready, counts, capacity), run)

    runs = [at(utilization) for utilization in HPA_TARGETS]
    serving = [one for one in runs if one.cost.overload <= cost.overload + 1e-9]
    affordable = [one for one in runs if one.cost.replica_minutes <= cost.replica_minutes + 1e-9]
    return HpaComparison(
        at(target),
        min(serving, key=lambda one: (one.cost.replica_minutes, -one.target), default=None),
        min(affordable, key=lambda one: (one.cost.overload, one.target), default=None),
        min(runs, key=lambda one: (one.cost.overload, one.cost.replica_minutes, -one.target)),
    )


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
    """Return the replicas that a HorizontalPodAutoscaler would have run on the same arrivals.

    The HPA starts with `first` replicas and keeps at least those for `hold` seconds, as the demo's
    resources do. Its metric is the mean of `window` seconds, `delay` seconds old, as in a metrics
    pipeline (15 s each by default). `down_window` is the scale-down window of the demo's policy,
    and `start_seconds` the measured start-up time.
    """
    pipeline = {"window": 15.0, "delay": 15.0} | dict(signal or {})
    window, delay = round(pipeline["window"]), round(pipeline["delay"])
    state = HpaState(max(first, bounds[0]))
    replicas: list[int] = []
    ready: list[int] = []
    starts: list[float] = []  # when each replica that still starts will be ready
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
        while serving + len(starts) > state.replicas:  # replicas that still start are removed first
            if starts:
                starts.pop()
            else:
                serving -= 1
        replicas.append(state.replicas)
        ready.append(serving)
    return SimulatedHpa(replicas, ready)

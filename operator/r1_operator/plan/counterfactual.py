"""What a plain HorizontalPodAutoscaler would have done on the same demand.

The rules of autoscaling/v2 on a metric with an average value, as a pure stepper: a look every
15 s, a tolerance of 10 %, up to the larger of double and four more in 15 s, down to the highest
recommendation of the last 300 s (kubernetes: pkg/controller/podautoscaler/horizontal.go,
replica_calculator.go and pkg/apis/autoscaling/v2/defaults.go). It runs beside the real policy on
counts of its own, so that every decision can say what was saved or spent.
"""

import math
from dataclasses import dataclass

from r1_operator.api.scaling import PolicyType
from r1_operator.plan.limits import Change, Noted, highest_allowed, note_highest, recent
from r1_operator.plan.policy import RateLimit

SYNC_SECONDS = 15.0
TOLERANCE = 0.1
DOWN_WINDOW_SECONDS = 300.0
UP_LIMITS = (RateLimit(PolicyType.PERCENT, 100, 15), RateLimit(PolicyType.PODS, 4, 15))


@dataclass(frozen=True, slots=True)
class Reactive:
    """The state of the imagined autoscaler: its count and what it remembers."""

    replicas: int
    synced_at: float | None = None
    recommendations: tuple[Noted, ...] = ()
    changes: tuple[Change, ...] = ()


def step(
    state: Reactive,
    demand: float | None,
    capacity: float,
    min_replicas: int,
    max_replicas: int,
    now: float,
    *,
    down_window: float = DOWN_WINDOW_SECONDS,
) -> Reactive:
    """Return the state after a look at `now`; unchanged before the next sync is due.

    `demand` and `capacity` (what is planned on one replica: target x utilisation) are in one
    unit; None for a metric that is missing, on which it keeps its count.
    """
    if state.synced_at is not None and now - state.synced_at < SYNC_SECONDS:
        return state
    low, high = max(1, min_replicas), max(1, max_replicas)
    current = min(max(state.replicas, low), high)
    if demand is None or not math.isfinite(demand):
        return Reactive(current, now, state.recommendations, state.changes)
    ratio = demand / (current * capacity)
    desired = current if abs(1 - ratio) <= TOLERANCE else math.ceil(demand / capacity - 1e-9)
    # It too remembers nothing before its first look, and takes the count it finds as advice.
    known = state.recommendations or (Noted(now, current),)
    recommendations = note_highest(known, now, desired)
    recommendations = recent(recommendations, now, down_window)
    stable = desired
    if desired < current:
        stable = min(current, max(noted.replicas for noted in recommendations))
    changes = tuple(change for change in state.changes if now - change.at < SYNC_SECONDS)
    ceiling = highest_allowed(current, changes, UP_LIMITS, now)
    if ceiling is not None:
        stable = min(stable, ceiling)
    replicas = min(max(stable, low), high)
    if replicas != current:
        changes = (*changes, Change(now, replicas - current))
    return Reactive(replicas, now, recommendations, changes)

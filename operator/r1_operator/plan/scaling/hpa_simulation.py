"""Simulation of a HorizontalPodAutoscaler on the same demand.

The rules of autoscaling/v2 on an External metric with an average value: a sync every 15 s, a tolerance of
10 %, up to the larger of double and four more in 15 s, down to the highest recommendation of the last
300 s (kubernetes: pkg/controller/podautoscaler/horizontal.go, replica_calculator.go and
pkg/apis/autoscaling/v2/defaults.go). It runs beside the real policy with its own counts, so that every
decision can be compared with it.

An integration test compares it with the kube-controller-manager, sync by sync.
"""

import math
from dataclasses import dataclass

from r1_operator.api.scaling import PolicyType
from r1_operator.plan.scaling.limits.rate_limits import (
    ReplicaChange,
    TimedCount,
    highest_allowed,
    lowest_allowed,
    recent,
    record_highest,
    record_lowest,
)
from r1_operator.plan.scaling.policy import RateLimit

SYNC_SECONDS = 15.0
TOLERANCE = 0.1
DOWN_WINDOW_SECONDS = 300.0
UP_LIMITS = (RateLimit(PolicyType.PERCENT, 100, 15), RateLimit(PolicyType.PODS, 4, 15))
DOWN_LIMITS = (RateLimit(PolicyType.PERCENT, 100, 15),)


@dataclass(frozen=True, slots=True)
class HpaRules:
    """Sync period of the controller and `spec.behavior` of an autoscaler.

    `has_behavior` False: without `spec.behavior` older rules apply. The count goes to the highest
    recommendation of the down window even when that is a rise, and in one sync to at most the larger
    of double and four; up windows and rate limits do not apply.
    """

    sync_seconds: float = SYNC_SECONDS
    up_window: float = 0.0
    down_window: float = DOWN_WINDOW_SECONDS
    up_limits: tuple[RateLimit, ...] = UP_LIMITS
    down_limits: tuple[RateLimit, ...] = DOWN_LIMITS
    has_behavior: bool = True

    def longest_period(self, by: int) -> float:
        """The longest period (s) of the rate limits in the direction of a change."""
        limits = self.up_limits if by > 0 else self.down_limits
        return max((limit.period_seconds for limit in limits), default=0.0)


DEFAULTS = HpaRules()


@dataclass(frozen=True, slots=True)
class HpaState:
    """State of the simulated autoscaler.

    `recommendations` and `lowest` are monotone queues of the highest and the lowest recommendations.
    """

    replicas: int
    synced_at: float | None = None
    recommendations: tuple[TimedCount, ...] = ()
    changes: tuple[ReplicaChange, ...] = ()
    lowest: tuple[TimedCount, ...] = ()


def simulate_sync(
    state: HpaState,
    demand: float | None,
    capacity: float,
    min_replicas: int,
    max_replicas: int,
    now: float,
    rules: HpaRules = DEFAULTS,
) -> HpaState:
    """Return the state after a sync at `now`; unchanged before the next sync is due.

    `demand` and `capacity` (target x utilization of one replica) are in one unit. A missing demand (None)
    keeps the count. At zero replicas nothing changes. A count outside of its bounds is set to the bound
    without reading the metric.
    """
    if state.synced_at is not None and now - state.synced_at < rules.sync_seconds:
        return state
    low, high = max(1, min_replicas), max(1, max_replicas)
    current = state.replicas
    # Before the first sync the present count is the only recommendation.
    first = () if state.recommendations else (TimedCount(now, current),)
    highest, lowest = state.recommendations or first, state.lowest or first
    if current == 0:
        replicas = 0
    elif not low <= current <= high:
        replicas = min(max(current, low), high)
    elif demand is None or not math.isfinite(demand):
        replicas = current
    else:
        desired = _desired(demand, capacity, current)
        highest = recent(record_highest(highest, now, desired), now, rules.down_window)
        lowest = recent(record_lowest(lowest, now, desired), now, rules.up_window)
        replicas = min(
            max(_allowed(current, desired, highest, lowest, state, now, rules), low), high
        )
    changes = state.changes
    if replicas != current:
        changes = _remembered(changes, ReplicaChange(now, replicas - current), rules)
    return HpaState(replicas, now, highest, changes, lowest)


def _remembered(
    changes: tuple[ReplicaChange, ...], made: ReplicaChange, rules: HpaRules
) -> tuple[ReplicaChange, ...]:
    """Return the recorded changes with another one.

    It replaces the last change in its direction that is older than this direction's rate limits, even
    where a limit of the other direction has a longer period.
    """
    longest = rules.longest_period(made.by)
    old = [
        place
        for place, change in enumerate(changes)
        if change.by * made.by > 0 and made.at - change.at > longest
    ]
    if not old:
        return (*changes, made)
    return (*changes[: old[-1]], made, *changes[old[-1] + 1 :])


def _desired(demand: float, capacity: float, current: int) -> int:
    """Return the recommendation of the metric alone."""
    ratio = demand / (current * capacity)
    # In this form: |1 - ratio| <= 0.1 is false at exactly 1.1 in floating point, theirs is true.
    if 1 - TOLERANCE <= ratio <= 1 + TOLERANCE:
        return current
    return math.ceil(demand / capacity - 1e-9)


def _allowed(
    current: int,
    desired: int,
    highest: tuple[TimedCount, ...],
    lowest: tuple[TimedCount, ...],
    state: HpaState,
    now: float,
    rules: HpaRules,
) -> int:
    """Return the count after windows and rate limits."""
    ceiling = max(noted.replicas for noted in highest)
    if not rules.has_behavior:
        return min(max(desired, ceiling), max(2 * current, 4))
    floor = min(noted.replicas for noted in lowest)
    stable = min(max(current, floor), ceiling)
    if stable > current:
        top = highest_allowed(current, state.changes, rules.up_limits, now)
        return stable if top is None else min(stable, top)
    bottom = lowest_allowed(current, state.changes, rules.down_limits, now)
    return stable if bottom is None else max(stable, bottom)

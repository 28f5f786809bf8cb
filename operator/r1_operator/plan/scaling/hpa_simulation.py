"""What a plain HorizontalPodAutoscaler would have done on the same demand.

The rules of autoscaling/v2 on an External metric with an average value, as a pure stepper: a look
every 15 s, a tolerance of 10 %, up to the larger of double and four more in 15 s, down to the
highest recommendation of the last 300 s (kubernetes: pkg/controller/podautoscaler/horizontal.go,
replica_calculator.go and pkg/apis/autoscaling/v2/defaults.go). It runs beside the real policy on
counts of its own, so that every decision can say what was saved or spent.

An integration test plays it beside the kube-controller-manager itself, look by look.
"""

import math
from dataclasses import dataclass

from r1_operator.api.scaling import PolicyType
from r1_operator.plan.scaling.policy import RateLimit
from r1_operator.plan.scaling.rate_limits import (
    Noted,
    ReplicaChange,
    highest_allowed,
    lowest_allowed,
    note_highest,
    note_lowest,
    recent,
)

SYNC_SECONDS = 15.0
TOLERANCE = 0.1
DOWN_WINDOW_SECONDS = 300.0
UP_LIMITS = (RateLimit(PolicyType.PERCENT, 100, 15), RateLimit(PolicyType.PODS, 4, 15))
DOWN_LIMITS = (RateLimit(PolicyType.PERCENT, 100, 15),)


@dataclass(frozen=True, slots=True)
class HpaRules:
    """How an autoscaler is set: its controller's period and its `spec.behavior`.

    `stanza` False is one without `spec.behavior`: it obeys rules older than that field, which
    differ. It goes to the highest recommendation of the down window even when that is a rise,
    and in one look to at most the larger of double and four; windows and limits do not apply.
    """

    sync_seconds: float = SYNC_SECONDS
    up_window: float = 0.0
    down_window: float = DOWN_WINDOW_SECONDS
    up_limits: tuple[RateLimit, ...] = UP_LIMITS
    down_limits: tuple[RateLimit, ...] = DOWN_LIMITS
    stanza: bool = True

    def longest_period(self, by: int) -> float:
        """The longest period (s) of the rate limits in the direction of a change."""
        limits = self.up_limits if by > 0 else self.down_limits
        return max((limit.period_seconds for limit in limits), default=0.0)


DEFAULTS = HpaRules()


@dataclass(frozen=True, slots=True)
class HpaState:
    """The state of the imagined autoscaler: its count and what it remembers.

    `recommendations` and `lowest` are the staircases of the highest and the lowest.
    """

    replicas: int
    synced_at: float | None = None
    recommendations: tuple[Noted, ...] = ()
    changes: tuple[ReplicaChange, ...] = ()
    lowest: tuple[Noted, ...] = ()


def simulate_sync(
    state: HpaState,
    demand: float | None,
    capacity: float,
    min_replicas: int,
    max_replicas: int,
    now: float,
    rules: HpaRules = DEFAULTS,
) -> HpaState:
    """Return the state after a look at `now`; unchanged before the next sync is due.

    `demand` and `capacity` (what is planned on one replica: target x utilisation) are in one
    unit; None for a metric that is missing, on which it keeps its count. At no replicas it does
    nothing, and a count outside of its bounds it sets to the bound without a look at the metric.
    """
    if state.synced_at is not None and now - state.synced_at < rules.sync_seconds:
        return state
    low, high = max(1, min_replicas), max(1, max_replicas)
    current = state.replicas
    # It remembers nothing before its first look, and takes the count it finds as advice.
    first = () if state.recommendations else (Noted(now, current),)
    highest, lowest = state.recommendations or first, state.lowest or first
    if current == 0:
        replicas = 0
    elif not low <= current <= high:
        replicas = min(max(current, low), high)
    elif demand is None or not math.isfinite(demand):
        replicas = current
    else:
        wanted = _wanted(demand, capacity, current)
        highest = recent(note_highest(highest, now, wanted), now, rules.down_window)
        lowest = recent(note_lowest(lowest, now, wanted), now, rules.up_window)
        replicas = min(
            max(_allowed(current, wanted, highest, lowest, state, now, rules), low), high
        )
    changes = state.changes
    if replicas != current:
        changes = _remembered(changes, ReplicaChange(now, replicas - current), rules)
    return HpaState(replicas, now, highest, changes, lowest)


def _remembered(
    changes: tuple[ReplicaChange, ...], made: ReplicaChange, rules: HpaRules
) -> tuple[ReplicaChange, ...]:
    """Return what is remembered of changes once another one is made.

    It takes the place of the last one in its direction that is older than this direction's limits
    ask about, even where a limit of the other direction, with a longer period, would have asked.
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


def _wanted(demand: float, capacity: float, current: int) -> int:
    """Return what the metric alone asks for."""
    ratio = demand / (current * capacity)
    # In this form: |1 - ratio| <= 0.1 is false at exactly 1.1 in floating point, theirs is true.
    if 1 - TOLERANCE <= ratio <= 1 + TOLERANCE:
        return current
    return math.ceil(demand / capacity - 1e-9)


def _allowed(
    current: int,
    wanted: int,
    highest: tuple[Noted, ...],
    lowest: tuple[Noted, ...],
    state: HpaState,
    now: float,
    rules: HpaRules,
) -> int:
    """Return the count after windows and rate limits."""
    ceiling = max(noted.replicas for noted in highest)
    if not rules.stanza:
        return min(max(wanted, ceiling), max(2 * current, 4))
    floor = min(noted.replicas for noted in lowest)
    stable = min(max(current, floor), ceiling)
    if stable > current:
        top = highest_allowed(current, state.changes, rules.up_limits, now)
        return stable if top is None else min(stable, top)
    bottom = lowest_allowed(current, state.changes, rules.down_limits, now)
    return stable if bottom is None else max(stable, bottom)

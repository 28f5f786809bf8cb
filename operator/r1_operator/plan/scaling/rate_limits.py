"""Rate limits and windows over past counts.

The limits are those of HorizontalPodAutoscaler behaviour: within any `period_seconds` the count
may move by so many pods or percent of what it was when the period began, and of several limits
the widest holds. What it was is the count now, without the changes made within the period.

A window's maximum is kept as a falling staircase (a monotone queue): a past count that is not
higher than a later one can never be the maximum again, so a window holds at most one entry per
replica count however often it is fed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from r1_operator.api.scaling import PolicyType
from r1_operator.plan.scaling.policy import RateLimit


@dataclass(frozen=True, slots=True)
class ReplicaChange:
    """A change of the count that was decided: at which time, by how many replicas."""

    at: float
    by: int


@dataclass(frozen=True, slots=True)
class Noted:
    """A count that was recommended at a time."""

    at: float
    replicas: int


def note_highest(window: tuple[Noted, ...], now: float, replicas: int) -> tuple[Noted, ...]:
    """Add a recommendation to a falling staircase that knows the maximum of any recent window."""
    kept = len(window)
    while kept and window[kept - 1].replicas <= replicas:
        kept -= 1
    return (*window[:kept], Noted(now, replicas))


def note_lowest(window: tuple[Noted, ...], now: float, replicas: int) -> tuple[Noted, ...]:
    """Add a recommendation to a rising staircase that knows the minimum of any recent window."""
    kept = len(window)
    while kept and window[kept - 1].replicas >= replicas:
        kept -= 1
    return (*window[:kept], Noted(now, replicas))


def recent(window: tuple[Noted, ...], now: float, seconds: float) -> tuple[Noted, ...]:
    """Drop what is older than `seconds`, oldest first; the newest always stays."""
    old = 0
    while old < len(window) - 1 and now - window[old].at >= seconds:
        old += 1
    return window[old:]


def highest_allowed(
    current: int, changes: Sequence[ReplicaChange], limits: Sequence[RateLimit], now: float
) -> int | None:
    """Return the count that may be reached upwards at `now`, None when nothing limits it.

    From zero at least one is allowed: a percentage of nothing would sleep for ever.
    """
    if not limits:
        return None
    reach = []
    for limit in limits:
        start = _period_start(current, changes, limit, now)
        if limit.type is PolicyType.PODS:
            reach.append(start + math.floor(limit.value))
        else:
            reach.append(math.ceil(start * (1 + limit.value / 100)))
    return max(current, 1 if current == 0 else 0, *reach)


def lowest_allowed(
    current: int, changes: Sequence[ReplicaChange], limits: Sequence[RateLimit], now: float
) -> int | None:
    """Return the count that may be reached downwards at `now`, None when nothing limits it."""
    if not limits:
        return None
    reach = []
    for limit in limits:
        start = _period_start(current, changes, limit, now)
        if limit.type is PolicyType.PODS:
            reach.append(start - math.floor(limit.value))
        else:
            reach.append(math.floor(start * (1 - limit.value / 100)))
    return min(current, max(0, min(reach)))


def _period_start(
    current: int, changes: Sequence[ReplicaChange], limit: RateLimit, now: float
) -> int:
    within = sum(change.by for change in changes if now - change.at < limit.period_seconds)
    return max(0, current - within)


def earliest_needed(required: int, limits: Sequence[RateLimit], periods: int) -> int:
    """Return the smallest count from which `required` can be reached in `periods` rate periods.

    The mid-term floor walks this way back: a rise that the limits would stretch over several
    periods has to begin that much earlier.
    """
    if not limits:
        return 0
    count = required
    for _ in range(periods):
        if count <= 1:
            break
        count = max(0, min(_one_period_before(count, limit) for limit in limits))
    return count


def _one_period_before(count: int, limit: RateLimit) -> int:
    if limit.type is PolicyType.PODS:
        return count - math.floor(limit.value)
    # The smallest start whose ceiling(start x (1 + p)) reaches the count.
    growth = 1 + limit.value / 100
    start = max(0, math.floor((count - 1) / growth))
    while math.ceil(start * growth) < count:
        start += 1
    return start

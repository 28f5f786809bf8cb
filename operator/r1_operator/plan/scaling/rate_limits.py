"""Rate limits and windows over past counts.

The limits are those of the HorizontalPodAutoscaler's `behavior`: within any `period_seconds` the count
may change by a number of pods or a percentage of the count at the start of the period, and the widest of
several limits applies. The count at the start is the present one without the changes of the period.

A window's maximum is a monotone queue with falling counts: a past count that is not higher than a later
one can never be the maximum again. So a window holds at most one entry per replica count.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from r1_operator.api.scaling import PolicyType
from r1_operator.plan.scaling.policy import RateLimit


@dataclass(frozen=True, slots=True)
class ReplicaChange:
    """A decided change of the count: time and number of replicas."""

    at: float
    by: int


@dataclass(frozen=True, slots=True)
class TimedCount:
    """A count at a time."""

    at: float
    replicas: int


def record_highest(
    window: tuple[TimedCount, ...], now: float, replicas: int
) -> tuple[TimedCount, ...]:
    """Append a count to a monotone queue whose head is the maximum of the window."""
    end = len(window)
    while end and window[end - 1].replicas <= replicas:
        end -= 1
    return (*window[:end], TimedCount(now, replicas))


def record_lowest(
    window: tuple[TimedCount, ...], now: float, replicas: int
) -> tuple[TimedCount, ...]:
    """Append a count to a monotone queue whose head is the minimum of the window."""
    end = len(window)
    while end and window[end - 1].replicas >= replicas:
        end -= 1
    return (*window[:end], TimedCount(now, replicas))


def recent(window: tuple[TimedCount, ...], now: float, seconds: float) -> tuple[TimedCount, ...]:
    """Drop entries older than `seconds`; the newest always stays."""
    old = 0
    while old < len(window) - 1 and now - window[old].at >= seconds:
        old += 1
    return window[old:]


def highest_allowed(
    current: int, changes: Sequence[ReplicaChange], limits: Sequence[RateLimit], now: float
) -> int | None:
    """Return the highest count that the limits allow at `now`, None without a limit.

    From zero at least one is allowed: a percentage of zero would never scale up.
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
    """Return the lowest count that the limits allow at `now`, None without a limit."""
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

    A rise that the limits stretch over several periods has to begin that much earlier.
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

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
    """A count at a time; `load`: the demand behind it, such as "4.1 requests/s" (empty where unused)."""

    at: float
    replicas: int
    load: str = ""


def record_highest(
    window: tuple[TimedCount, ...], now: float, replicas: int, load: str = ""
) -> tuple[TimedCount, ...]:
    """Append a count to a monotone queue whose head is the maximum of the window."""
    end = len(window)
    while end and window[end - 1].replicas <= replicas:
        end -= 1
    return (*window[:end], TimedCount(now, replicas, load))


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


def seconds_until_below(
    window: Sequence[TimedCount], replicas: int, now: float, seconds: float
) -> float | None:
    """Return when the maximum of a window of `seconds` falls below `replicas` (seconds from `now`).

    None where it is below now. Counts of the future are not known: this is the earliest time.
    """
    last = max((one.at for one in window if one.replicas >= replicas), default=None)
    return None if last is None else max(0.0, last + seconds - now)


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


def seconds_until_lower(
    current: int, changes: Sequence[ReplicaChange], limits: Sequence[RateLimit], now: float
) -> float | None:
    """Return the seconds from `now` until the limits allow a count below `current`; None: never."""
    moments = {now} | {one.at + limit.period_seconds for one in changes for limit in limits}
    for moment in sorted(moment for moment in moments if moment >= now):
        lowest = lowest_allowed(current, changes, limits, moment)
        if lowest is None or lowest < current:
            return moment - now
    return None


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

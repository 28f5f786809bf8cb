"""Rates of one gateway's counters over a window that ends at the newest sample."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter

SHORTEST_SECONDS = 5.0
_AT = attrgetter("at")


@dataclass(frozen=True, slots=True)
class CounterPoint:
    """Counters at a time of the gateway's clock, with restarts added up.

    `replica_seconds`: ready time summed over replicas.
    """

    at: float
    requests: float
    tokens: float
    completed: float
    rejected: float
    replica_seconds: float


@dataclass(frozen=True, slots=True)
class Rates:
    """Mean increase of each counter per second over `seconds`; of replica-seconds this is the mean
    number of ready replicas.
    """

    seconds: float
    requests: float
    tokens: float
    completed: float
    rejected: float
    replicas: float


def rates_over(points: Sequence[CounterPoint], seconds: float) -> Rates | None:
    """Return the rates of the last `seconds` of at least one point, in the order of time.

    Counters are linear between the two points around the window's edge. A history shorter than the
    window is used whole; one shorter than `SHORTEST_SECONDS` gives None.
    """
    oldest, newest = points[0], points[-1]
    edge = max(newest.at - seconds, oldest.at)
    span = newest.at - edge
    if span < min(SHORTEST_SECONDS, seconds):
        return None
    after = bisect_left(points, edge, key=_AT)
    right = points[after]
    left = points[after - 1] if after else right
    share = (edge - left.at) / (right.at - left.at) if after else 0.0

    def rate(end: float, before: float, behind: float) -> float:
        return (end - (before + share * (behind - before))) / span

    return Rates(
        span,
        rate(newest.requests, left.requests, right.requests),
        rate(newest.tokens, left.tokens, right.tokens),
        rate(newest.completed, left.completed, right.completed),
        rate(newest.rejected, left.rejected, right.rejected),
        rate(newest.replica_seconds, left.replica_seconds, right.replica_seconds),
    )

"""What one gateway reports of one resource, and how much it counted between two reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from r1_operator.api.scaling import ClassName

_LARGEST = 2.0**53  # beyond it a float counter cannot increase by one


@dataclass(frozen=True, slots=True)
class CounterSample:
    """One gateway's figures of one resource: counters since `started_at` and gauges at `at`.

    Sums over the classes. `queued`: requests that wait for a seat; `buffered`: those of them that wait
    for a first pod. `started_at` and `at`: the gateway's wall clock (unix seconds); `received_at`: the
    operator's monotonic time (seconds).
    """

    gateway: str
    started_at: float
    at: float
    received_at: float
    offered_requests: float
    offered_tokens: float
    completed: float
    rejected: float
    in_flight: float
    queued: float
    buffered: float
    oldest_wait_seconds: float
    seats: float
    ready_endpoints: float
    in_flight_by_pod: Mapping[str, float] | None = None
    """by pod address without the port; None where the gateway does not report it"""
    offered_by_class: Mapping[ClassName, float] | None = None
    """offered requests by class; None where the gateway does not report it"""
    seat_seconds: float | None = None
    """how long a request holds its seat; None before the first completion or where not reported"""
    uptime: float | None = None
    """seconds since the gateway's start by its monotonic clock; None from an earlier release"""

    def fault(self) -> str | None:
        """Return the invalid figure, None without one."""
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if isinstance(value, float | int) and not 0 <= value <= _LARGEST:
                return f"{name} is {value}"
        for value in (self.offered_by_class or {}).values():
            if not 0 <= value <= _LARGEST:
                return f"offered_by_class holds {value}"
        return None

    def is_busy(self) -> bool:
        """Return whether a request is in flight or queued."""
        return self.in_flight + self.queued + self.buffered > 0


@dataclass(frozen=True, slots=True)
class CounterIncrease:
    """Counts between two samples, `seconds` apart; no figure is negative.

    `ready_seconds`: ready time summed over replicas. `by_class`: offered requests by class (None where a
    sample has none).
    """

    seconds: float
    requests: float
    tokens: float
    completed: float
    rejected: float
    ready_seconds: float
    by_class: Mapping[ClassName, float] | None

    @property
    def has_requests(self) -> bool:
        """Whether a request arrived or completed."""
        return self.requests > 0 or self.completed > 0


def increase_between(
    before: CounterSample, after: CounterSample, seconds: float, *, restarted: bool
) -> CounterIncrease:
    """Return the increase of every counter.

    A counter that fell counts from zero: the gateway forgot the resource and learned it again. After a
    restart of the process every counter does.
    """
    return CounterIncrease(
        seconds,
        _increase(before.offered_requests, after.offered_requests, restarted),
        _increase(before.offered_tokens, after.offered_tokens, restarted),
        _increase(before.completed, after.completed, restarted),
        _increase(before.rejected, after.rejected, restarted),
        before.ready_endpoints * seconds,
        _increase_by_class(before.offered_by_class, after.offered_by_class, restarted),
    )


def counted_since_start(sample: CounterSample, seconds: float) -> CounterIncrease:
    """Return everything that a gateway has counted in the `seconds` since its start.

    Its ready replicas of that time are unknown.
    """
    return CounterIncrease(
        seconds,
        sample.offered_requests,
        sample.offered_tokens,
        sample.completed,
        sample.rejected,
        0.0,
        sample.offered_by_class,
    )


def fell(before: CounterSample, after: CounterSample) -> bool:
    """Return whether a counter is lower than before."""
    return (
        after.offered_requests < before.offered_requests
        or after.offered_tokens < before.offered_tokens
        or after.completed < before.completed
        or after.rejected < before.rejected
    )


def _increase(before: float, after: float, restarted: bool) -> float:
    return after if restarted or after < before else after - before


def _increase_by_class(
    before: Mapping[ClassName, float] | None,
    after: Mapping[ClassName, float] | None,
    restarted: bool,
) -> Mapping[ClassName, float] | None:
    if after is None or (before is None and not restarted):
        return None
    if before == after and not restarted:
        return {}  # most of ten thousand resources are idle, and idle ones must cost little
    known = before or {}
    return {
        name: _increase(known.get(name, 0.0), count, restarted) for name, count in after.items()
    }

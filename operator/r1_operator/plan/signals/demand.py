"""Demand from the gateways' counters.

Scaling follows the *offered* load, never the completed one: an under-scaled service completes less, which
would look like less demand. The gateways publish counters since their own start; a window keeps the last
minute of them and takes differences.

Two clocks are never mixed. Rates use the gateway's time, which does not step when its wall clock is set
(`gateway_time.py`). Staleness uses the operator's monotonic time (`received_at`). A counter that falls, or
a new process, is a restart: all it counts since then is new.

A rate over a minute is late, and a rate over ten seconds is noisy. So the demand is the largest of three
rates. The rates over 10 s and 30 s count with their lower bound under a Poisson count
(`rate x (1 - 2 / sqrt(arrivals))`). A span shorter than the lead time is skipped: such a burst ends
before a new replica could serve it.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from r1_common.contracts.unavailable import Unavailable
from r1_operator.api.scaling import ClassName
from r1_operator.plan.signals.counter_rates import SHORTEST_SECONDS, CounterPoint, Rates, rates_over
from r1_operator.plan.signals.gateway_time import age, elapsed, is_restart

WINDOW_SECONDS = 60.0
BURST_SECONDS = (10.0, 30.0)
STALE_SECONDS = 15.0
_POINTS_PER_WINDOW = 30
_LARGEST = 2.0**53  # beyond it a float counter cannot increase by one
_BURST_DEVIATIONS = 2.0


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


@dataclass(frozen=True, slots=True)
class Demand:
    """Demand on one resource, summed over its gateways.

    Rates are per second. `completed_per_replica`: completions of one ready replica, which is its
    capacity while requests are queued. `missing`: known gateways that do not answer; the figures are
    then a lower bound and may raise a count only. `completed`: completions since the gateways' first
    samples; it falls when a gateway leaves.
    """

    requests_per_second: float | Unavailable
    tokens_per_second: float | Unavailable
    in_flight: float
    queued: float
    oldest_wait_seconds: float
    completed_per_replica: float | Unavailable = 0.0
    rejected_per_second: float | Unavailable = 0.0
    buffered: float = 0.0
    seats: float = 0.0
    missing: tuple[str, ...] = ()
    completed: float | None = None


@dataclass(slots=True)
class _Series:
    """One gateway's counters, with restarts added up, and its newest gauges.

    Point times are the gateway's time since its first sample.
    """

    newest: CounterSample
    points: list[CounterPoint]
    completed_before: float
    fault: str | None = None


@dataclass(slots=True)
class DemandWindow:
    """The last `seconds` of every gateway's counters of one resource.

    It keeps at most about thirty points per gateway, so that ten thousand resources fit in memory.
    """

    seconds: float = WINDOW_SECONDS
    burst_seconds: tuple[float, ...] = BURST_SECONDS
    stale_seconds: float = STALE_SECONDS
    _series: dict[str, _Series] = field(default_factory=dict)

    def observe(self, sample: CounterSample) -> None:
        """Add a sample; a sample with invalid figures is stored as a fault."""
        series = self._series.get(sample.gateway)
        fault = sample.fault()
        if fault is not None:
            if series is not None:
                series.fault = fault
            return
        if series is None:
            points = _first_points(sample, self.seconds)
            self._series[sample.gateway] = _Series(sample, points, sample.completed)
            return
        self._append(series, sample)

    def _append(self, series: _Series, sample: CounterSample) -> None:
        old, last = series.newest, series.points[-1]
        passed, restarted = elapsed(old, sample), is_restart(old, sample)
        if passed <= 0 and not restarted:
            return
        if passed <= 0:  # another process at the same time: no difference to take
            series.points = _first_points(sample, self.seconds)
            series.completed_before = sample.completed
        else:
            point = CounterPoint(
                last.at + passed,
                last.requests + _increase(old.offered_requests, sample.offered_requests, restarted),
                last.tokens + _increase(old.offered_tokens, sample.offered_tokens, restarted),
                last.completed + _increase(old.completed, sample.completed, restarted),
                last.rejected + _increase(old.rejected, sample.rejected, restarted),
                last.replica_seconds + old.ready_endpoints * passed,
            )
            # The newest point is replaced until it is far enough from the one before it.
            spacing = self.seconds / _POINTS_PER_WINDOW
            if len(series.points) > 1 and last.at - series.points[-2].at < spacing:
                series.points[-1] = point
            else:
                series.points.append(point)
            # One point at or before the window's start stays, to cover the whole window.
            while len(series.points) > 2 and series.points[1].at <= point.at - self.seconds:
                del series.points[0]
        series.newest = sample
        series.fault = None

    def read(
        self, now: float, gateways: Collection[str] | None = None, lead_seconds: float = 0.0
    ) -> "Demand | Unavailable":
        """Return the demand at `now` by the operator's monotonic clock.

        `gateways`: the expected ones, where known. Other gateways are dropped: a gateway that was scaled
        down is not missing data. `lead_seconds`: lead time of a replica.
        """
        if gateways is not None:
            for gone in set(self._series) - set(gateways):
                del self._series[gone]
        live = {
            name: series
            for name, series in self._series.items()
            if series.fault is None and now - series.newest.received_at <= self.stale_seconds
        }
        expected = set(self._series) if gateways is None else set(gateways)
        missing = tuple(sorted(expected - set(live)))
        if not live:
            return self._nothing(now, missing)
        newest = [series.newest for series in live.values()]
        requests, tokens, finished, rejected = self._rates(live, lead_seconds)
        return Demand(
            requests_per_second=requests,
            tokens_per_second=tokens,
            completed_per_replica=finished,
            rejected_per_second=rejected,
            in_flight=sum(sample.in_flight for sample in newest),
            queued=sum(sample.queued for sample in newest),
            buffered=sum(sample.buffered for sample in newest),
            seats=sum(sample.seats for sample in newest),  # each gateway has its own share of them
            oldest_wait_seconds=max(sample.oldest_wait_seconds for sample in newest),
            missing=missing,
            completed=sum(s.points[-1].completed - s.completed_before for s in live.values()),
        )

    def _rates(
        self, live: Mapping[str, _Series], lead_seconds: float
    ) -> tuple[float | Unavailable, ...]:
        """Return offered requests and tokens, completions per replica, and rejections, per second."""
        means = [rates_over(series.points, self.seconds) for series in live.values()]
        known = [each for each in means if each is not None]
        if len(known) < len(means):
            return (_WARMING_UP,) * 4
        requests = sum(each.requests for each in known)
        tokens = sum(each.tokens for each in known)
        for span in self.burst_seconds:
            if span < lead_seconds:
                continue
            burst = [rates_over(series.points, span) for series in live.values()]
            known_bursts = [each for each in burst if each is not None]
            certain = _certain_share(known_bursts)
            requests = max(requests, certain * sum(each.requests for each in known_bursts))
            tokens = max(tokens, certain * sum(each.tokens for each in known_bursts))
        # All gateways route to the same pods; the highest count is the most recent one.
        replicas = max(each.replicas for each in known)
        completed = sum(each.completed for each in known)
        return (
            requests,
            tokens,
            completed / replicas if replicas > 0 else _NO_READY_REPLICA,
            sum(each.rejected for each in known),
        )

    def _nothing(self, now: float, missing: tuple[str, ...]) -> Unavailable:
        faults = [f"{name}: {s.fault}" for name, s in self._series.items() if s.fault is not None]
        if faults:
            return Unavailable(
                "InvalidSignals", f"The gateway reports invalid figures ({faults[0]})."
            )
        if self._series:
            age = now - max(series.newest.received_at for series in self._series.values())
            return Unavailable(
                "StaleSignals",
                f"No gateway has answered for {age:.0f} s ({', '.join(missing) or 'none known'}).",
            )
        return Unavailable("NoSignals", "No gateway has reported on this resource yet.")


_WARMING_UP = Unavailable(
    "WarmingUp", f"A rate needs {SHORTEST_SECONDS:g} s of a gateway's counters."
)

_NO_READY_REPLICA = Unavailable("NoReadyReplica", "No replica was ready in the window.")


def _certain_share(burst: list[Rates]) -> float:
    """Return the share of a short span's rate that is not chance; 0 for few arrivals."""
    arrivals = sum(each.requests * each.seconds for each in burst)
    if arrivals <= _BURST_DEVIATIONS**2:
        return 0.0
    return 1 - _BURST_DEVIATIONS / math.sqrt(arrivals)


def _first_points(sample: CounterSample, window: float) -> list[CounterPoint]:
    """Return the points of a first sample.

    The counters of a gateway younger than the window started at zero within it, so its first sample
    gives a rate. An older gateway gives the point that the next sample is compared with.
    """
    point = CounterPoint(
        sample.at,
        sample.offered_requests,
        sample.offered_tokens,
        sample.completed,
        sample.rejected,
        0.0,
    )
    counted_for = age(sample)
    if 0 < counted_for <= window:
        return [CounterPoint(sample.at - counted_for, 0.0, 0.0, 0.0, 0.0, 0.0), point]
    return [point]


def _increase(before: float, after: float, restarted: bool) -> float:
    return after if restarted or after < before else after - before

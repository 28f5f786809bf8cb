"""Counters of one resource at all gateways: the one place that compares two samples.

Demand, arrivals by class and latencies read sums of increases, never a gateway's counters. So no reader has
a rule of its own, and no rate is negative or counts a request twice. The rules:

| sample | effect |
|---|---|
| the first, of a gateway younger than a reader's window | everything it counted is within the window |
| the first, of an older gateway | counts begin with the next sample |
| later, of the same process | the increase counts; a counter that fell counts from zero |
| of a process that started since the newest sample | everything it counted counts |
| repeated, late, or of another process that ran before | ignored, and the series gets older |
| with an invalid figure | the gateway is missing until the next valid sample |
| none for `STALE_SECONDS` | the gateway is missing for every reader |
| two ignored samples in a row of a stale gateway | the series begins anew |

Two clocks are never mixed. Rates use the gateway's time, which does not step when its wall clock is set
(`gateway_time.py`). Staleness uses the operator's monotonic time (`received_at`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from r1_common.contracts.unavailable import Unavailable
from r1_operator.plan.signals.class_arrivals import ArrivalRates, ClassArrivals, class_arrivals_of
from r1_operator.plan.signals.counter_sample import (
    CounterSample,
    counted_since_start,
    fell,
    increase_between,
)
from r1_operator.plan.signals.demand import Demand, DemandSums, demand_of, first_sums
from r1_operator.plan.signals.gateway_time import Order, age, elapsed, is_clock_set, order
from r1_operator.plan.signals.latencies import (
    NOT_REPORTED,
    Latencies,
    LatencySums,
    latencies_of,
)
from r1_operator.plan.signals.latency_histograms import GatewayLatencies

STALE_SECONDS = 15.0
_REPLACED = 8
"""Earlier processes whose late responses are recognized."""

NO_GATEWAY = Unavailable(
    "NoGateway", "The operator finds no gateway: set R1_GATEWAY_SERVICE, or start the gateway."
)


@dataclass(slots=True)
class _Series:
    """Sums of one gateway, and its newest accepted sample."""

    newest: CounterSample
    demand: DemandSums = field(default_factory=first_sums)
    arrivals: ArrivalRates = field(default_factory=ArrivalRates)
    latencies: LatencySums = field(default_factory=LatencySums)
    ignored: CounterSample | None = None
    """newest sample that was ignored since `newest`"""
    replaced: tuple[float, ...] = ()
    """`started_at` of the processes before the present one, the newest last"""
    fault: str | None = None

    def is_stale(self, now: float) -> bool:
        return now - self.newest.received_at > STALE_SECONDS


@dataclass(slots=True)
class CounterStore:
    """Counters of one resource, by gateway. Times are seconds of the operator's monotonic clock."""

    last_active_at: float = 0.0
    """when a sample last showed a request, or a gateway's first sample was received"""
    _series: dict[str, _Series] = field(default_factory=dict)

    def observe(self, sample: CounterSample, latencies: GatewayLatencies | None = None) -> None:
        """Add a sample. `latencies` are of the same response; None where no SLO target reads them."""
        series = self._series.get(sample.gateway)
        fault = sample.fault()
        if fault is not None:
            if series is not None:
                series.fault = fault
            return
        if series is None:
            self._begin(sample, latencies)
            return
        relation = _order(series.newest, sample, series.replaced)
        if relation is not Order.NOT_NEWER:
            self._add(series, sample, latencies, restarted=relation is Order.RESTART)
            return
        before, series.ignored = series.ignored, sample
        stale = series.is_stale(sample.received_at)
        if stale and before is not None and _order(before, sample, ()) is Order.NEXT:
            self._begin(sample, latencies)

    def _begin(self, sample: CounterSample, latencies: GatewayLatencies | None) -> None:
        """Begin the series of a gateway."""
        series = self._series[sample.gateway] = _Series(sample)
        self.last_active_at = sample.received_at
        counted_for = age(sample)
        since_start = counted_since_start(sample, counted_for)
        series.demand.add_since_start(since_start)
        series.arrivals.add_since_start(since_start)
        series.latencies.add(latencies, 0.0, counted_for, restarted=False)

    def _add(
        self,
        series: _Series,
        sample: CounterSample,
        latencies: GatewayLatencies | None,
        *,
        restarted: bool,
    ) -> None:
        """Add the increase since the newest sample."""
        seconds = elapsed(series.newest, sample)
        if restarted:  # another process: only the operator's clock has read both
            seconds = sample.received_at - series.newest.received_at
            series.replaced = (*series.replaced[1 - _REPLACED :], series.newest.started_at)
        increase = increase_between(series.newest, sample, seconds, restarted=restarted)
        if restarted or sample.is_busy() or increase.has_requests:
            self.last_active_at = sample.received_at
        series.demand.add(increase)
        series.arrivals.add(increase)
        series.latencies.add(latencies, seconds, age(sample), restarted=restarted)
        series.newest, series.ignored, series.fault = sample, None, None

    def demand(
        self, now: float, gateways: Collection[str] | None = None, lead_seconds: float = 0.0
    ) -> Demand | Unavailable:
        """Return the demand at `now`, a lower bound while a gateway is missing.

        `gateways`: the expected ones, where known. `lead_seconds`: lead time of a replica.
        """
        expected = self._expected(gateways)
        if gateways is not None and not expected:
            return NO_GATEWAY
        live = self._live(now)
        missing = tuple(sorted(expected - set(live)))
        if not live:
            return self._nothing(now, missing)
        return demand_of([(one.newest, one.demand) for one in live.values()], missing, lead_seconds)

    def class_arrivals(self, now: float, gateways: Collection[str]) -> ClassArrivals | Unavailable:
        """Return the arrivals by class at `now`; Unavailable while an expected gateway is missing."""
        expected = self._expected(gateways)
        if not expected:
            return NO_GATEWAY
        live = self._live(now).values()
        return class_arrivals_of([(one.newest, one.arrivals) for one in live], len(expected))

    def latencies(
        self, now: float, gateways: Collection[str] | None = None
    ) -> Latencies | Unavailable:
        """Return the recent latencies at `now`; Unavailable while an expected gateway is missing."""
        expected = self._expected(gateways)
        if gateways is not None and not expected:
            return NOT_REPORTED
        if all(one.latencies.newest is None for one in self._series.values()):
            return NOT_REPORTED
        live = self._live(now)
        return latencies_of(
            {name: live[name].latencies if name in live else None for name in expected}
        )

    def _expected(self, gateways: Collection[str] | None) -> set[str]:
        """Return the expected gateways; drop others: one that was scaled down is not missing data."""
        if gateways is None:
            return set(self._series)
        for gone in set(self._series) - set(gateways):
            del self._series[gone]
        return set(gateways)

    def _live(self, now: float) -> dict[str, _Series]:
        return {
            name: series
            for name, series in self._series.items()
            if series.fault is None and not series.is_stale(now)
        }

    def _nothing(self, now: float, missing: tuple[str, ...]) -> Unavailable:
        faults = [f"{name}: {s.fault}" for name, s in self._series.items() if s.fault is not None]
        if faults:
            return Unavailable(
                "InvalidSignals", f"The gateway reports invalid figures ({faults[0]})."
            )
        if self._series:
            silent = now - max(series.newest.received_at for series in self._series.values())
            return Unavailable(
                "StaleSignals",
                f"No gateway has answered for {silent:.0f} s ({', '.join(missing) or 'none known'}).",
            )
        return Unavailable("NoSignals", "No gateway has reported on this resource yet.")


def _order(newest: CounterSample, sample: CounterSample, replaced: Collection[float]) -> Order:
    """Return the order by the clocks, or by the counters where a wall clock alone cannot tell.

    Without `uptime` (gateways of an earlier release), a late response looks like a clock that was set.
    Only the late one counts less.
    """
    relation = order(newest, sample, replaced)
    if relation is not Order.NEXT or (newest.uptime is not None and sample.uptime is not None):
        return relation
    late = is_clock_set(newest, sample) and fell(newest, sample)
    return Order.NOT_NEWER if late else relation

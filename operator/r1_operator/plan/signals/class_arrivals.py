"""Arrival rates by priority class and seat holding time, the inputs of seat reservations.

The gateways count arrivals by class since their own start. The rates here decay over half a minute, as
the gateways' own rates do, so both get the same result on the same load. The gateways measure how long
a request holds its seat.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from r1_common.contracts.unavailable import Unavailable
from r1_operator.api.scaling import ClassName
from r1_operator.plan.signals.demand import STALE_SECONDS, CounterSample
from r1_operator.plan.signals.gateway_time import age, elapsed, is_restart

MEMORY_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class ClassArrivals:
    """Arrivals of one resource over all its gateways.

    `arrivals`: requests/s by class. `seat_seconds`: how long a request holds its seat (None: no request
    has completed yet). `seats`: seats on ready pods, which `gateways` share equally.
    """

    arrivals: Mapping[ClassName, float]
    seat_seconds: float | None
    seats: int
    gateways: int


@dataclass(slots=True)
class _Series:
    """The newest sample, and the rates at the last arrival, `silence` seconds before it."""

    newest: CounterSample
    arrivals: dict[ClassName, float]
    silence: float = 0.0

    def rate(self, name: ClassName) -> float:
        """Return requests/s, decayed to the newest sample."""
        return self.arrivals[name] * math.exp(-self.silence / MEMORY_SECONDS)


@dataclass(slots=True)
class ClassArrivalsWindow:
    """Decaying rates of every gateway's counters of one resource."""

    _series: dict[str, _Series] = field(default_factory=dict)

    def observe(self, sample: CounterSample) -> None:
        """Add a sample; invalid and older samples are ignored."""
        if sample.offered_by_class is None or sample.fault() is not None:
            return
        series = self._series.get(sample.gateway)
        if series is None or is_restart(series.newest, sample):
            self._series[sample.gateway] = _Series(sample, _since_start(sample))
            return
        passed = elapsed(series.newest, sample)
        if passed <= 0:
            return
        before = series.newest.offered_by_class or {}
        series.newest = sample
        series.silence += passed
        if before == sample.offered_by_class:
            return  # most of ten thousand resources are idle, and idle ones must cost little
        decay = math.exp(-series.silence / MEMORY_SECONDS)
        series.silence = 0.0
        for name in ClassName:
            increase = max(0.0, sample.offered_by_class.get(name, 0.0) - before.get(name, 0.0))
            series.arrivals[name] = series.arrivals[name] * decay + increase / MEMORY_SECONDS

    def read(self, now: float, gateways: Collection[str]) -> ClassArrivals | Unavailable:
        """Return the arrivals at `now` (the operator's monotonic clock).

        Unavailable where a gateway does not report it.
        """
        for gone in set(self._series) - set(gateways):
            del self._series[gone]
        live = [
            series
            for series in self._series.values()
            if now - series.newest.received_at <= STALE_SECONDS
        ]
        silent = len(gateways) - len(live)
        if not live or silent:
            message = f"{silent} of {len(gateways)} gateways do not report arrivals by class."
            return Unavailable("ClassesUnknown", message)
        seat_times = [seconds for one in live if (seconds := one.newest.seat_seconds) is not None]
        return ClassArrivals(
            arrivals={name: sum(one.rate(name) for one in live) for name in ClassName},
            seat_seconds=sum(seat_times) / len(seat_times) if seat_times else None,
            seats=round(sum(series.newest.seats for series in live)),
            gateways=len(live),
        )


def _since_start(sample: CounterSample) -> dict[ClassName, float]:
    """Return the rates of a new gateway; its counters are within the memory if it is younger."""
    counted = sample.offered_by_class if age(sample) <= MEMORY_SECONDS else None
    return {name: (counted or {}).get(name, 0.0) / MEMORY_SECONDS for name in ClassName}

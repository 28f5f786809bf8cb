"""How often each class comes, and how long a seat is held: what a reserve of seats rests on.

The gateways count arrivals by class since their own start; the rates here decay over half a minute,
as the gateways' own do, so that both reckon alike on the same load. How long a seat is held they
measure themselves.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from r1_operator.api.scaling import ClassName
from r1_operator.plan.signals.demand import STALE_SECONDS, CounterSample
from r1_operator.plan.signals.gateway_time import age, elapsed, is_restart
from r1_operator.plan.unavailable import Unavailable

MEMORY_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class ClassArrivals:
    """What the classes of one resource ask for, over all its gateways.

    `arrivals` are requests/s by class; `held_seconds` is how long a request holds its seat (None:
    nothing has ended yet); `seats` are those on ready pods; `gateways` share them equally.
    """

    arrivals: Mapping[ClassName, float]
    held_seconds: float | None
    seats: int
    gateways: int


@dataclass(slots=True)
class _Series:
    """The newest sample, and the rates as of the last arrival, `silence` seconds before it."""

    newest: CounterSample
    arrivals: dict[ClassName, float]
    silence: float = 0.0

    def rate(self, name: ClassName) -> float:
        """Requests/s, faded until the newest sample."""
        return self.arrivals[name] * math.exp(-self.silence / MEMORY_SECONDS)


@dataclass(slots=True)
class ClassArrivalsWindow:
    """Decaying rates of every gateway's counters of one resource."""

    _series: dict[str, _Series] = field(default_factory=dict)

    def observe(self, sample: CounterSample) -> None:
        """Take in a sample; one with impossible figures, or from before, says nothing."""
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
            return  # of ten thousand resources most are silent, and silence must cost little
        decay = math.exp(-series.silence / MEMORY_SECONDS)
        series.silence = 0.0
        for name in ClassName:
            came = max(0.0, sample.offered_by_class.get(name, 0.0) - before.get(name, 0.0))
            series.arrivals[name] = series.arrivals[name] * decay + came / MEMORY_SECONDS

    def read(self, now: float, gateways: Collection[str]) -> ClassArrivals | Unavailable:
        """Return what is known at `now` (the operator's monotonic clock).

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
            said = f"{silent} of {len(gateways)} gateways do not tell what each class asks for."
            return Unavailable("ClassesUnknown", said)
        told = [held for one in live if (held := one.newest.held_seconds) is not None]
        return ClassArrivals(
            arrivals={name: sum(one.rate(name) for one in live) for name in ClassName},
            held_seconds=sum(told) / len(told) if told else None,
            seats=round(sum(series.newest.seats for series in live)),
            gateways=len(live),
        )


def _since_start(sample: CounterSample) -> dict[ClassName, float]:
    """Rates of a gateway seen first: one as young as the memory has counted them all within it."""
    counted = sample.offered_by_class if age(sample) <= MEMORY_SECONDS else None
    return {name: (counted or {}).get(name, 0.0) / MEMORY_SECONDS for name in ClassName}

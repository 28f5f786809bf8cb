"""Arrival rates by priority class and seat holding time, the inputs of seat reservations.

The rates decay over half a minute, as the gateways' own rates do, so both get the same result on the same
load. The gateways measure how long a request holds its seat.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from r1_common.contracts.unavailable import Unavailable
from r1_operator.api.scaling import ClassName
from r1_operator.plan.signals.counter_sample import CounterIncrease, CounterSample

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
class ArrivalRates:
    """Decaying arrival rates of one gateway: requests/s at the last arrival, `silence` seconds ago."""

    rates: dict[ClassName, float] = field(default_factory=dict)
    silence: float = 0.0

    def add(self, increase: CounterIncrease) -> None:
        """Add the arrivals between two samples."""
        self.silence += increase.seconds
        if not increase.by_class:
            return
        decay = math.exp(-self.silence / MEMORY_SECONDS)
        self.silence = 0.0
        self.rates = {
            name: self.rates.get(name, 0.0) * decay
            + increase.by_class.get(name, 0.0) / MEMORY_SECONDS
            for name in ClassName
        }

    def add_since_start(self, increase: CounterIncrease) -> None:
        """Add what a gateway counted since its start, where that is within the memory."""
        if increase.by_class and increase.seconds <= MEMORY_SECONDS:
            self.add(increase)

    def rate(self, name: ClassName) -> float:
        """Return requests/s, decayed to the newest sample."""
        return self.rates.get(name, 0.0) * math.exp(-self.silence / MEMORY_SECONDS)


def class_arrivals_of(
    reporting: Collection[tuple[CounterSample, ArrivalRates]], gateways: int
) -> ClassArrivals | Unavailable:
    """Return the arrivals of the reporting ones of `gateways`.

    Unavailable where a gateway does not report them.
    """
    known = [(newest, rates) for newest, rates in reporting if newest.offered_by_class is not None]
    silent = gateways - len(known)
    if not known or silent:
        message = f"{silent} of {gateways} gateways do not report arrivals by class."
        return Unavailable("ClassesUnknown", message)
    seat_times = [newest.seat_seconds for newest, _ in known if newest.seat_seconds is not None]
    return ClassArrivals(
        arrivals={name: sum(rates.rate(name) for _, rates in known) for name in ClassName},
        seat_seconds=sum(seat_times) / len(seat_times) if seat_times else None,
        seats=round(sum(newest.seats for newest, _ in known)),
        gateways=len(known),
    )

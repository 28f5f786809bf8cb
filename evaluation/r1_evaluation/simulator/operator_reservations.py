"""Seat reservations of the operator for the gateways of a simulated pool.

`Operator` is `r1_operator.plan.scaling.seat_reservation` on counters that it reads every two
seconds. `perfect_forecast` adds the arrivals that do come while a seat is in use, an upper bound
for any forecast.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from r1_common.contracts.priority_classes import CLASSES, PriorityClass
from r1_common.contracts.unavailable import Unavailable
from r1_evaluation.simulator.arrivals import Arrival
from r1_gateway.admission.admission_queue import Admission
from r1_operator.api.scaling import ClassName
from r1_operator.plan.scaling.seat_reservation import ReservationInput, plan_seat_reservation
from r1_operator.plan.signals.class_arrivals import ClassArrivals
from r1_operator.plan.signals.counter_sample import CounterSample
from r1_operator.plan.signals.counter_store import CounterStore

TICK_SECONDS = 2.0
VALID_SECONDS = 10.0
EPOCH = 1_700_000_000.0
"""The unix time of the simulation's start: the decision code reads clocks that look like clocks."""


@dataclass(slots=True)
class Operator:
    """Reserves seats at every gateway. `urgent_at` are the times of Q1 requests."""

    slo_targets: Mapping[ClassName, float]
    perfect_forecast: bool = False
    urgent_at: Sequence[float] = ()
    _counters: CounterStore = field(default_factory=CounterStore)

    def observe_arrivals(self, arrivals: Sequence[Arrival]) -> None:
        """Record the arrivals of Q1 for the perfect forecast."""
        self.urgent_at = [one.at for one in arrivals if one.klass is PriorityClass.Q1]

    def tick(
        self,
        admissions: Sequence[Admission[Any]],
        offered: Sequence[Sequence[int]],
        now: float,
        *,
        ready: int,
        replicas: int,
    ) -> None:
        """Read the counters (`offered` by gateway and class), decide, and reserve."""
        names = [f"gateway-{n}" for n in range(len(admissions))]
        for name, admission, counts in zip(names, admissions, offered, strict=True):
            self._counters.observe(_sample(name, admission, counts, now, ready))
        urgency = self._counters.class_arrivals(EPOCH + now, names)
        if isinstance(urgency, Unavailable):
            return
        if self.perfect_forecast and urgency.seat_seconds:
            urgency = replace(
                urgency, arrivals=self._with_known_arrivals(urgency, urgency.seat_seconds, now)
            )
        held = plan_seat_reservation(ReservationInput(urgency, self.slo_targets, ready, replicas))
        seats = {PriorityClass[one.name.value]: one.per_gateway for one in held}
        for admission in admissions:
            admission.reserve_seats(seats, now + VALID_SECONDS)

    def _with_known_arrivals(
        self, urgency: ClassArrivals, seconds: float, now: float
    ) -> Mapping[ClassName, float]:
        """Return the arrivals, with the known rate of Q1 where it is higher."""
        come = bisect_left(self.urgent_at, now + seconds) - bisect_left(self.urgent_at, now)
        coming = max(urgency.arrivals[ClassName.Q1], come / seconds)
        return {**urgency.arrivals, ClassName.Q1: coming}


def _sample(
    name: str, admission: Admission[Any], counts: Sequence[int], now: float, ready: int
) -> CounterSample:
    return CounterSample(
        gateway=name,
        started_at=EPOCH,
        at=EPOCH + now,
        received_at=EPOCH + now,
        offered_requests=sum(counts),
        offered_tokens=0.0,
        completed=0.0,
        rejected=0.0,
        in_flight=sum(admission.in_flight),
        queued=admission.waiting,
        buffered=0.0,
        oldest_wait_seconds=0.0,
        seats=admission.pool.seats,
        ready_endpoints=ready,
        offered_by_class={ClassName[k.name]: counts[k] for k in CLASSES},
        seat_seconds=admission.occupancy_seconds,
    )

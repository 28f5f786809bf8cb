"""What the operator's decision tells the gateways of a simulated pool: seats to keep free.

`Operator` is `r1_operator.plan.scaling.seat_reservation`, fed with counters every two seconds as the operator reads
them. `foresight` adds the arrivals that really come while a seat is held: no forecast can beat that.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from r1_evaluation.simulator.arrivals import Arrival
from r1_gateway.admission.admission_queue import Admission
from r1_gateway.admission.classes import CLASSES, PriorityClass
from r1_operator.api.scaling import ClassName
from r1_operator.plan.scaling.seat_reservation import ReservationInput, plan_seat_reservation
from r1_operator.plan.signals.class_arrivals import ClassArrivals, ClassArrivalsWindow
from r1_operator.plan.signals.demand import CounterSample
from r1_operator.plan.unavailable import Unavailable

LOOK_SECONDS = 2.0
VALID_SECONDS = 10.0
EPOCH = 1_700_000_000.0
"""The unix time of the simulation's start: the decision code reads clocks that look like clocks."""


@dataclass(slots=True)
class Operator:
    """Looks at every gateway and advises it. `urgent_at` are the moments of Q1, for foresight."""

    promises: Mapping[ClassName, float]
    foresight: bool = False
    urgent_at: Sequence[float] = ()
    _window: ClassArrivalsWindow = field(default_factory=ClassArrivalsWindow)

    def foresee(self, arrivals: Sequence[Arrival]) -> None:
        """Take over what will come."""
        self.urgent_at = [one.at for one in arrivals if one.klass is PriorityClass.Q1]

    def look(
        self,
        admissions: Sequence[Admission[Any]],
        offered: Sequence[Sequence[int]],
        now: float,
        *,
        ready: int,
        replicas: int,
    ) -> None:
        """Read the counters (`offered` by gateway and class), decide, and advise."""
        names = [f"gateway-{n}" for n in range(len(admissions))]
        for name, admission, counts in zip(names, admissions, offered, strict=True):
            self._window.observe(_sample(name, admission, counts, now, ready))
        urgency = self._window.read(EPOCH + now, names)
        if isinstance(urgency, Unavailable):
            return
        if self.foresight and urgency.seat_seconds:
            urgency = replace(
                urgency, arrivals=self._with_coming(urgency, urgency.seat_seconds, now)
            )
        held = plan_seat_reservation(ReservationInput(urgency, self.promises, ready, replicas))
        seats = {PriorityClass[one.name.value]: one.per_gateway for one in held}
        for admission in admissions:
            admission.reserve_seats(seats, now + VALID_SECONDS)

    def _with_coming(
        self, urgency: ClassArrivals, seconds: float, now: float
    ) -> Mapping[ClassName, float]:
        """What came lately, or what really comes within so many seconds, if that is more."""
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

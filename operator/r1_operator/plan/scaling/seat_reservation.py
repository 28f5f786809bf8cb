"""Seats that the gateways reserve for priority classes with an SLO target.

A gateway reserves seats from its own arrivals. A decision also knows the arrivals at all gateways and the
replicas that are about to stop. It applies the same formula (`r1_common.seat_reservation`) to them:

- Each gateway has its own share of every replica's seats. So the reserve is computed for one gateway's
  share and counted once per gateway.
- Before a scale-down the larger reserve of before and after applies. New replicas count once their seats
  exist.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from r1_common.contracts.unavailable import Unavailable
from r1_common.seat_reservation import WAIT_SHARE, reserved_seats
from r1_operator.api.scaling import ClassName
from r1_operator.plan.signals.class_arrivals import ClassArrivals


class ReservationReason(StrEnum):
    """Cause of a reservation's size: recent arrivals, or replicas that are about to stop."""

    ARRIVALS = "Arrivals"
    PENDING_SCALE_DOWN = "PendingScaleDown"


@dataclass(frozen=True, slots=True)
class ClassReservation:
    """Seats reserved for a class and those above it, per gateway and in total."""

    name: ClassName
    per_gateway: int
    seats: int
    reason: ReservationReason
    message: str


@dataclass(frozen=True, slots=True)
class ReservationInput:
    """Inputs of a reservation.

    `slo_targets`: time to first token by class (seconds). `replicas`: the decided count, `ready`: pods
    that serve now.
    """

    class_arrivals: ClassArrivals
    slo_targets: Mapping[ClassName, float]
    ready: int
    replicas: int

    @property
    def seats_after(self) -> int:
        """Seats after the decided scale-down."""
        if self.ready <= 0 or self.replicas >= self.ready:
            return self.class_arrivals.seats
        return self.class_arrivals.seats * self.replicas // self.ready


def reservation_of(
    class_arrivals: ClassArrivals | Unavailable | None,
    slo_targets: Mapping[ClassName, float],
    ready: int,
    replicas: int,
) -> tuple[ClassReservation, ...] | Unavailable | None:
    """Return the reservations for `replicas`, or why the arrivals are unknown."""
    if class_arrivals is None or isinstance(class_arrivals, Unavailable):
        return class_arrivals
    return plan_seat_reservation(ReservationInput(class_arrivals, slo_targets, ready, replicas))


def plan_seat_reservation(inputs: ReservationInput) -> tuple[ClassReservation, ...]:
    """Return the reservation of each class that has an SLO target and a class below it."""
    reservations: list[ClassReservation] = []
    names = tuple(ClassName)
    for count, name in enumerate(names[:-1], start=1):
        if inputs.slo_targets.get(name, 0.0) > 0.0:
            reservations.append(_for_class(inputs, name, names[:count]))
    return tuple(reservations)


def _for_class(
    inputs: ReservationInput, name: ClassName, urgent: Sequence[ClassName]
) -> ClassReservation:
    observed = inputs.class_arrivals
    with_target = [one for one in urgent if inputs.slo_targets.get(one, 0.0) > 0.0]
    arrivals = sum(observed.arrivals.get(one, 0.0) for one in with_target)
    window = WAIT_SHARE * min(inputs.slo_targets[one] for one in with_target)
    gateways = max(1, observed.gateways)

    def share(seats: int) -> int:
        return reserved_seats(arrivals / gateways, window, seats / gateways, observed.seat_seconds)

    now, after = share(observed.seats), share(inputs.seats_after)
    per_gateway = max(now, after)
    seats = per_gateway * gateways
    pending = after > now
    reason = ReservationReason.PENDING_SCALE_DOWN if pending else ReservationReason.ARRIVALS
    message = _message(inputs, name, with_target, seats, arrivals, reason)
    return ClassReservation(name, per_gateway, seats, reason, message)


def _message(
    inputs: ReservationInput,
    name: ClassName,
    with_target: Sequence[ClassName],
    seats: int,
    arrivals: float,
    reason: ReservationReason,
) -> str:
    observed = inputs.class_arrivals
    milliseconds = inputs.slo_targets[name] * 1000
    classes = " and ".join(one.value for one in with_target)
    text = (
        f"{seats} of {observed.seats} seats are reserved for {name.value} "
        f"(TTFT target {milliseconds:.0f} ms): {classes} requests arrive at {arrivals:.3g} per second"
    )
    if observed.seat_seconds is not None:
        text += f", a request holds its seat for {observed.seat_seconds:.3g} s"
    if observed.gateways > 1:
        text += f", {observed.gateways} gateways share the seats"
    if reason is ReservationReason.PENDING_SCALE_DOWN:
        text += f"; a scale-down is about to remove {observed.seats - inputs.seats_after} seats"
    return f"{text}."

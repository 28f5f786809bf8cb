"""How many seats to keep free for classes with a promise: what a decision tells the gateways.

A gateway holds seats back by itself, from what it saw itself (`r1_gateway.admission.seat_reservation`). A decision
knows more: the arrivals at all gateways, and which replicas are about to go. So it reckons the same
reserve on that:

- urgent arrivals (rate `a`) take seats out of a reserve of `n`, freed ones (rate `r`, the seats over
  the time that each is held) go back into it first. The seats that are missing are the customers of
  an M/M/1 queue: an urgent request still has none after `w` seconds with probability
  `(a/r)^n exp(-r w)`, and `n` is the smallest that makes this one in a thousand. `w` is half of the
  promise; the rest of it is the prefill's.
- each gateway has its own share of every replica's seats and lends none, so the reserve is reckoned
  for one gateway's share and counted once for each.
- when replicas go, the larger reserve of before and after holds, before they are gone. When replicas
  come, their seats count when they are there.

Never more than half of a pool: whoever may use one at all must get on in it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from r1_operator.api.scaling import ClassName
from r1_operator.plan.signals.class_arrivals import ClassArrivals
from r1_operator.plan.unavailable import Unavailable

MISSES = 0.001
WAIT_SHARE = 0.5
"""Part of a promised time to first token that may be spent waiting for a seat."""


class ReservationReason(StrEnum):
    """Why so many seats: what came lately, or replicas that are about to go."""

    ARRIVALS = "Arrivals"
    SEATS_LEAVE = "SeatsLeave"


@dataclass(frozen=True, slots=True)
class ClassReservation:
    """Seats to keep free for a class and those above it, at every gateway and in all."""

    name: ClassName
    per_gateway: int
    seats: int
    reason: ReservationReason
    message: str


@dataclass(frozen=True, slots=True)
class ReservationInput:
    """What a reserve is reckoned from.

    `promises` are times to first token by class (seconds). `replicas` is the count decided, `ready`
    how many serve now.
    """

    urgency: ClassArrivals
    promises: Mapping[ClassName, float]
    ready: int
    replicas: int

    @property
    def seats_after(self) -> int:
        """Seats that are left once those replicas are gone that are about to go."""
        if self.ready <= 0 or self.replicas >= self.ready:
            return self.urgency.seats
        return self.urgency.seats * self.replicas // self.ready


def reservation_of(
    urgency: ClassArrivals | Unavailable | None,
    promises: Mapping[ClassName, float],
    ready: int,
    replicas: int,
) -> tuple[ClassReservation, ...] | Unavailable | None:
    """Return what a decision for `replicas` says about seats; as little as is known of the load."""
    if urgency is None or isinstance(urgency, Unavailable):
        return urgency
    return plan_seat_reservation(ReservationInput(urgency, promises, ready, replicas))


def plan_seat_reservation(situation: ReservationInput) -> tuple[ClassReservation, ...]:
    """Return the seats to keep free for each class with a promise that has somebody below it."""
    held: list[ClassReservation] = []
    names = tuple(ClassName)
    for count, name in enumerate(names[:-1], start=1):
        if situation.promises.get(name, 0.0) > 0.0:
            held.append(_for_class(situation, name, names[:count]))
    return tuple(held)


def reserve(arrivals: float, window: float, seats: float, held_seconds: float | None) -> int:
    """Return the reserve of one pool (module docstring): rates per second, times in seconds.

    `window` is how long an urgent request may wait. One seat while nobody knows how long it is held.
    """
    if arrivals * window < MISSES or seats < 2:
        return 0
    if held_seconds is None:
        return 1
    if held_seconds <= 0:
        return 0
    half = int(seats) // 2
    releases = seats / held_seconds
    too_likely = -math.log(MISSES) - releases * window
    if too_likely <= 0.0:
        return 0
    if arrivals >= releases:
        return half
    return min(math.ceil(too_likely / math.log(releases / arrivals)), half)


def _for_class(
    situation: ReservationInput, name: ClassName, urgent: Sequence[ClassName]
) -> ClassReservation:
    urgency = situation.urgency
    promised = [one for one in urgent if situation.promises.get(one, 0.0) > 0.0]
    arrivals = sum(urgency.arrivals.get(one, 0.0) for one in promised)
    window = WAIT_SHARE * min(situation.promises[one] for one in promised)
    gateways = max(1, urgency.gateways)

    def share(seats: int) -> int:
        return reserve(arrivals / gateways, window, seats / gateways, urgency.held_seconds)

    now, after = share(urgency.seats), share(situation.seats_after)
    kept = max(now, after)
    reason = ReservationReason.SEATS_LEAVE if after > now else ReservationReason.ARRIVALS
    words = _message(situation, name, promised, kept * gateways, arrivals, reason)
    return ClassReservation(name, kept, kept * gateways, reason, words)


def _message(
    situation: ReservationInput,
    name: ClassName,
    promised: Sequence[ClassName],
    kept: int,
    arrivals: float,
    reason: ReservationReason,
) -> str:
    urgency = situation.urgency
    milliseconds = situation.promises[name] * 1000
    who = " and ".join(one.value for one in promised)
    text = (
        f"{kept} of {urgency.seats} seats stay free for {name.value} ({milliseconds:.0f} ms): "
        f"{who} came {arrivals:.3g} times a second"
    )
    if urgency.held_seconds is not None:
        text += f", a seat is held for {urgency.held_seconds:.3g} s"
    if urgency.gateways > 1:
        text += f", at {urgency.gateways} gateways"
    if reason is ReservationReason.SEATS_LEAVE:
        text += f"; {urgency.seats - situation.seats_after} seats are about to go"
    return f"{text}."

"""How many seats to keep free for classes with a promise: what a decision tells the gateways.

A gateway holds seats back by itself, from what it saw itself (`r1_gateway.holdback`). A decision
knows more: the arrivals at all gateways, which replicas are about to go, and the forecast. So it
reckons the same reserve on that:

- urgent arrivals (rate `a`) take seats out of a reserve of `n`, freed ones (rate `r`, the seats over
  the time that each is held) go back into it first. The seats that are missing are the customers of
  an M/M/1 queue: an urgent request still has none after `w` seconds with probability
  `(a/r)^n exp(-r w)`, and `n` is the smallest that makes this one in a thousand. `w` is half of the
  promise; the rest of it is the prefill's.
- each gateway has its own share of every replica's seats and lends none, so the reserve is reckoned
  for one gateway's share and counted once for each.
- when replicas go, their seats count no more, before they are gone. When replicas come, their seats
  count when they are there.
- what the forecast expects within the time that a seat is held is taken as if it had come already.

Never more than half of a pool: whoever may use one at all must get on in it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from r1_operator.api.scaling import ClassName
from r1_operator.plan.unavailable import Unavailable
from r1_operator.plan.urgency import Urgency

MISSES = 0.001
WAIT_SHARE = 0.5
"""Part of a promised time to first token that may be spent waiting for a seat."""
MOST_GROWTH = 2.0
"""The most that a forecast may multiply what has come lately."""


class HoldbackReason(StrEnum):
    """Why so many seats: what came lately, replicas about to go, or what is forecast."""

    ARRIVALS = "Arrivals"
    SEATS_LEAVE = "SeatsLeave"
    FORECAST = "Forecast"


@dataclass(frozen=True, slots=True)
class ClassHoldback:
    """Seats to keep free for a class and those above it, at every gateway and in all."""

    name: ClassName
    per_gateway: int
    seats: int
    reason: HoldbackReason
    message: str


@dataclass(frozen=True, slots=True)
class Situation:
    """What a reserve is reckoned from.

    `promises` are times to first token by class (seconds). `replicas` is the count decided, `ready`
    how many serve now. `growth` is what the forecast expects the load to come to within the time
    that a seat is held, relative to now (1: no more than now).
    """

    urgency: Urgency
    promises: Mapping[ClassName, float]
    ready: int
    replicas: int
    growth: float = 1.0

    @property
    def seats_after(self) -> int:
        """Seats that are left once those replicas are gone that are about to go."""
        if self.ready <= 0 or self.replicas >= self.ready:
            return self.urgency.seats
        return self.urgency.seats * self.replicas // self.ready


def holdback_of(
    urgency: Urgency | Unavailable | None,
    promises: Mapping[ClassName, float],
    ready: int,
    replicas: int,
) -> tuple[ClassHoldback, ...] | Unavailable | None:
    """Return what a decision for `replicas` says about seats; as little as is known of the load."""
    if urgency is None or isinstance(urgency, Unavailable):
        return urgency
    return plan_holdback(Situation(urgency, promises, ready, replicas))


def plan_holdback(situation: Situation) -> tuple[ClassHoldback, ...]:
    """Return the seats to keep free for each class with a promise that has somebody below it."""
    held: list[ClassHoldback] = []
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


def _for_class(situation: Situation, name: ClassName, urgent: Sequence[ClassName]) -> ClassHoldback:
    urgency = situation.urgency
    promised = [one for one in urgent if situation.promises.get(one, 0.0) > 0.0]
    arrivals = sum(urgency.arrivals.get(one, 0.0) for one in promised)
    window = WAIT_SHARE * min(situation.promises[one] for one in promised)
    gateways = max(1, urgency.gateways)

    def share(growth: float, seats: int) -> int:
        return reserve(arrivals * growth / gateways, window, seats / gateways, urgency.held_seconds)

    growth = min(max(1.0, situation.growth), MOST_GROWTH)
    now = share(1.0, urgency.seats)
    after = share(1.0, situation.seats_after)
    whole = max(now, after, share(growth, situation.seats_after))
    leaving = _leaving(situation, gateways) if arrivals * window >= MISSES else 0
    half = urgency.seats // gateways // 2
    kept = min(whole + leaving, half)
    reason = HoldbackReason.ARRIVALS
    if leaving or after > now:
        reason = HoldbackReason.SEATS_LEAVE
    elif whole > now:
        reason = HoldbackReason.FORECAST
    return ClassHoldback(
        name,
        kept,
        kept * gateways,
        reason,
        _message(situation, name, promised, kept * gateways, arrivals, growth, reason),
    )


def _leaving(situation: Situation, gateways: int) -> int:
    """Seats at each gateway that go with replicas: a reserve on them would go as well."""
    return (situation.urgency.seats - situation.seats_after) // gateways


def _message(
    situation: Situation,
    name: ClassName,
    promised: Sequence[ClassName],
    kept: int,
    arrivals: float,
    growth: float,
    reason: HoldbackReason,
) -> str:
    urgency = situation.urgency
    milliseconds = situation.promises[name] * 1000
    who = " and ".join(one.value for one in promised)
    held = urgency.held_seconds
    text = (
        f"{kept} of {urgency.seats} seats stay free for {name.value} ({milliseconds:.0f} ms): "
        f"{who} came {arrivals:.3g} times a second"
    )
    if held is not None:
        text += f", a seat is held for {held:.3g} s"
    if urgency.gateways > 1:
        text += f", at {urgency.gateways} gateways"
    if reason is HoldbackReason.SEATS_LEAVE:
        text += f"; {urgency.seats - situation.seats_after} seats are about to go"
    elif reason is HoldbackReason.FORECAST:
        text += f"; {growth:.2g} times as many are forecast"
    return f"{text}."

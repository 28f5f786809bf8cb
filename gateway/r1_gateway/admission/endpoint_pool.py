"""Pods of a route: seats, circuit breakers and the choice of a pod.

A *seat* is one running sequence of the engine's batch.  The gateway puts at most ``seats`` sequences
on a pod.  It chooses the pod when a seat is assigned (late binding), so a long generation on one pod
delays no request that could run on another.

A pod gets no requests while its circuit breaker is open:

- after a failed connection, for a time that doubles with each failure, until a connection succeeds;
- while it is ejected (:mod:`~r1_gateway.admission.passive_health`), until the head of a good
  response; at most half of the pool is ejected at a time;
- for the ``Retry-After`` of a 503 response.

After that time the breaker is half-open.  The pod gets one request, and one more for each
``PROBE_SECONDS`` without a failure, because the head of a long response may come late.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from r1_gateway.admission.passive_health import (
    FORGET_SECONDS,
    Outcomes,
    PassiveHealth,
    ejection_seconds,
)

FIRST_PAUSE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 10.0
PROBE_SECONDS = 1.0


class Breaker(enum.Enum):
    """Why a pod's circuit breaker is not closed."""

    UNREACHABLE = enum.auto()
    EJECTED = enum.auto()
    REQUESTED = enum.auto()


@dataclass(slots=True, eq=False)
class Endpoint:
    """One pod: its seats, its circuit breaker and its recent outcomes."""

    address: str
    seats: int
    serving: bool = True
    in_flight: int = 0
    """Seats in use."""
    failures: int = 0
    """Consecutive failed connections."""
    breaker: Breaker | None = None
    paused_until: float = 0.0
    probing: bool = False
    removed: bool = False
    outcomes: Outcomes = field(default_factory=Outcomes)
    ejections: int = 0
    returned_at: float = 0.0
    load: int = 0
    """Seats in use when the pod was listed."""
    listed_seats: int = 0
    """Free seats when the pod was listed; 0 while it is in no list."""

    def has_free_seat(self, now: float) -> bool:
        """Whether the pod can take a request now."""
        return (
            self.serving
            and self.in_flight < self.seats
            and (self.breaker is None or self.paused_until <= now)
        )


class EndpointPool:
    """The pods of one route.

    Pods with a free seat are listed by the seats in use, so a choice reads the first one only: the
    cost of :meth:`choose`, :meth:`acquire` and :meth:`release` does not depend on the number of pods.
    A pod that is full, draining or paused is in no list.
    """

    def __init__(self) -> None:
        self._endpoints: dict[str, Endpoint] = {}
        self._order: list[Endpoint] = []
        self._loads: list[dict[Endpoint, None]] = [{}]
        self._least = 0  # no list below this one has a pod
        self._free = 0
        self._broken: dict[Endpoint, None] = {}  # pods whose breaker is open or half-open
        self._recovery_at = math.inf
        self._now = 0.0
        self._health = PassiveHealth()
        self.emptying: Endpoint | None = None
        """The pod that gets no new requests until a wide request fits on it."""
        self.ready = 0
        """Pods that are ready in their EndpointSlices, whatever their breakers."""
        self.seats = 0
        """Seats on these pods, in use or free."""

    def __iter__(self) -> Iterator[Endpoint]:
        return iter(self._order)

    @property
    def known(self) -> int:
        """Pods in any state, draining pods with requests in flight included."""
        return len(self._order)

    @property
    def available(self) -> int:
        """Ready pods whose breaker is closed."""
        return self.ready - sum(e.serving for e in self._broken)

    @property
    def available_seats(self) -> int:
        """Seats on available pods, in use or free."""
        if not self._broken:
            return self.seats
        return self.seats - sum(e.seats for e in self._broken if e.serving)

    @property
    def ejected(self) -> int:
        """Ready pods that are ejected."""
        return sum(e.serving and e.breaker is Breaker.EJECTED for e in self._broken)

    def has_more_free_than(self, count: int, now: float) -> bool:
        """Whether more than ``count`` seats can be assigned now; a draining pod has none."""
        if now >= self._recovery_at:
            self._recover(now)
        free = self._free
        emptying = self.emptying
        if emptying is not None and emptying.has_free_seat(now):
            free += emptying.seats - emptying.in_flight
        return free > count

    # -- discovery -----------------------------------------------------------------------------

    def update(self, readiness: Mapping[str, bool], seats_per_replica: int) -> None:
        """Apply the discovered pods: address -> ready for new requests.

        A removed pod with requests in flight stays known until the last of them ends.  If its
        address comes back, these requests still count.
        """
        for address, ready in readiness.items():
            endpoint = self._endpoints.get(address)
            if endpoint is None:
                endpoint = Endpoint(address, seats_per_replica)
                self._endpoints[address] = endpoint
            if ready and not endpoint.serving:  # a new start: earlier failures do not count
                self._health.forget(endpoint.outcomes)
                endpoint.ejections = 0
                self._close_breaker(endpoint)
            endpoint.serving = ready
            endpoint.removed = False
            endpoint.seats = seats_per_replica
        for address, endpoint in self._endpoints.items():
            if address not in readiness:
                endpoint.serving, endpoint.removed = False, True
        self._forget()
        if self.emptying is not None and not self.emptying.serving:
            self.emptying = None
        for endpoint in self._order:
            self._place(endpoint)
        self._limit_ejections()

    def _forget(self) -> None:
        left: list[Endpoint] = []
        for endpoint in self._endpoints.values():
            if endpoint.removed and not endpoint.in_flight:
                self._unlist(endpoint)
                self._broken.pop(endpoint, None)
                self._health.forget(endpoint.outcomes)
            else:
                left.append(endpoint)
        self._endpoints = {e.address: e for e in left}
        self._order = left
        self.ready = sum(e.serving for e in left)
        self.seats = sum(e.seats for e in left if e.serving)

    # -- the lists of available pods -----------------------------------------------------------

    def _unlist(self, endpoint: Endpoint) -> None:
        if endpoint.listed_seats:
            del self._loads[endpoint.load][endpoint]
            self._free -= endpoint.listed_seats
            endpoint.listed_seats = 0

    def _place(self, endpoint: Endpoint) -> None:
        """List the pod by its seats in use, last among equals; a full or paused pod in no list."""
        if endpoint.listed_seats:
            del self._loads[endpoint.load][endpoint]
            self._free -= endpoint.listed_seats
        load = endpoint.in_flight
        free = endpoint.seats - load
        if not endpoint.serving or free <= 0 or endpoint is self.emptying:
            endpoint.listed_seats = 0
            return
        if endpoint.breaker is not None:
            if endpoint.paused_until > self._now:
                endpoint.listed_seats = 0
                return
            free = 1
        loads = self._loads
        while len(loads) <= load:
            loads.append({})
        loads[load][endpoint] = None
        endpoint.load, endpoint.listed_seats = load, free
        self._free += free
        self._least = min(self._least, load)

    def choose(
        self, now: float, avoid: Collection[str] = (), width: int = 1, *, emptying: bool = False
    ) -> Endpoint | None:
        """The pod with a free seat and the fewest seats in use, round robin among equals, or None.

        The request needs ``width`` seats, at most those of a pod.  ``emptying``: the pod that is
        being emptied may be chosen when no other has a free seat.
        """
        self._now = now
        if now >= self._recovery_at:
            self._recover(now)
        loads = self._loads
        least, count = self._least, len(loads)
        while least < count and not loads[least]:
            least += 1
        self._least = least
        if not avoid and width == 1:
            if least < count:
                return next(iter(loads[least]))
        else:
            for load in range(least, count):
                for endpoint in loads[load]:
                    if endpoint.address in avoid:
                        continue
                    if endpoint.seats - load >= min(width, endpoint.seats):
                        return endpoint
        spare = self.emptying if emptying else None
        if (
            spare is not None
            and spare.has_free_seat(now)
            and spare.seats - spare.in_flight >= min(width, spare.seats)
            and spare.address not in avoid
        ):
            return spare
        return None

    def start_emptying(self, now: float, avoid: Collection[str] = ()) -> None:
        """Assign no new requests to the available pod with the fewest seats in use."""
        self.stop_emptying()
        self.emptying = self.choose(now, avoid)
        if self.emptying is not None:
            self._unlist(self.emptying)

    def stop_emptying(self) -> None:
        """Assign new requests to every pod again."""
        endpoint, self.emptying = self.emptying, None
        if endpoint is not None:
            self._place(endpoint)

    def has_other(self, avoid: Collection[str]) -> bool:
        """Whether a ready pod outside ``avoid`` exists, with or without a free seat."""
        return any(e.serving and e.address not in avoid for e in self._order)

    def acquire(self, endpoint: Endpoint, width: int = 1) -> int:
        """Take seats on the pod that :meth:`choose` just returned; the number taken."""
        taken = min(width, endpoint.seats)
        load = endpoint.in_flight
        endpoint.in_flight = new = load + taken
        if endpoint.breaker is not None:
            endpoint.probing = True
            self._pause_until(endpoint, self._now + PROBE_SECONDS)
            self._place(endpoint)
        elif endpoint.listed_seats:
            loads = self._loads  # as in `_place`, inlined: on the path of each request
            del loads[load][endpoint]
            self._free -= taken
            endpoint.listed_seats = free = endpoint.seats - new
            if free:
                endpoint.load = new
                if new >= len(loads):
                    loads.extend({} for _ in range(new + 1 - len(loads)))
                loads[new][endpoint] = None
        return taken

    def release(self, endpoint: Endpoint, taken: int = 1) -> None:
        """Free seats; forget a removed pod after its last request."""
        load = endpoint.in_flight
        endpoint.in_flight = new = load - taken
        if endpoint.listed_seats and endpoint.breaker is None:  # stays listed: as in `_place`
            loads = self._loads
            del loads[load][endpoint]
            self._free += taken
            endpoint.listed_seats += taken
            endpoint.load = new
            loads[new][endpoint] = None
            if new < self._least:  # noqa: PLR1730 - on the path of each request; a call costs more
                self._least = new
            return
        if endpoint.probing:  # the client left before the response: another request may probe
            endpoint.probing = False
            self._pause_until(endpoint, self._now)
        self._place(endpoint)
        if endpoint.removed and endpoint.in_flight == 0:
            self._forget()

    # -- breakers ------------------------------------------------------------------------------

    def connected(self, endpoint: Endpoint) -> None:
        """A connection succeeded: the pod is reachable."""
        if endpoint.breaker is Breaker.UNREACHABLE:
            self._close_breaker(endpoint)

    def response_started(self, endpoint: Endpoint) -> None:
        """The head of a good response came."""
        endpoint.outcomes.good += 1
        self._health.pool.good += 1
        if endpoint.breaker is not None and (
            endpoint.probing or endpoint.paused_until <= self._now
        ):
            self._close_breaker(endpoint)

    def completed(self, endpoint: Endpoint) -> None:
        """A good response is complete."""
        endpoint.outcomes.consecutive = 0

    def failed(
        self, endpoint: Endpoint, now: float, *, unreachable: bool, after_head: bool = False
    ) -> float | None:
        """A request failed on the pod; the seconds of the ejection that this failure causes, or None.

        ``unreachable`` (no connection) opens the breaker at once.  Requests that fail together count
        once: a failure while the pod is paused is not counted.  ``after_head``: the head of the
        response was good.
        """
        self._now = now
        if endpoint.breaker is not None and endpoint.paused_until > now and not endpoint.probing:
            return None
        if unreachable:
            endpoint.failures += 1
            seconds = FIRST_PAUSE_SECONDS * 2.0 ** min(endpoint.failures - 1, 10)
            self._open(endpoint, Breaker.UNREACHABLE, now + min(seconds, LONGEST_PAUSE_SECONDS))
            self._limit_ejections()
            return None
        outlier = self._health.failed(
            endpoint.outcomes, now, (e.outcomes for e in self._order), after_head=after_head
        )
        again = endpoint.breaker is Breaker.EJECTED
        if again and not self._health.is_worse(endpoint.outcomes):
            self._close_breaker(endpoint)  # the request fails on every pod
            return None
        if not again and not (outlier and endpoint.serving and self._may_eject()):
            return None
        in_service = 0.0 if again else max(now - endpoint.returned_at, 0.0)
        endpoint.ejections = max(endpoint.ejections - int(in_service / FORGET_SECONDS), 0) + 1
        ejected_for = ejection_seconds(endpoint.ejections)
        self._open(endpoint, Breaker.EJECTED, now + ejected_for)
        return ejected_for

    def pause(self, endpoint: Endpoint, now: float, seconds: float) -> None:
        """Assign the pod no requests for the seconds of its ``Retry-After``."""
        self._now = now
        until = now + min(seconds, LONGEST_PAUSE_SECONDS)
        if endpoint.breaker is None:
            self._open(endpoint, Breaker.REQUESTED, until)
        else:
            self._open(endpoint, endpoint.breaker, max(endpoint.paused_until, until))
        self._limit_ejections()

    def _may_eject(self) -> bool:
        """Whether one more pod may be ejected: at most half of the ready pods, unreachable included."""
        out = sum(e.serving for e in self._broken)
        return out + 1 <= self.ready // 2

    def _limit_ejections(self) -> None:
        """End ejections early when fewer than half of the ready pods are available."""
        if not self._broken:
            return
        serving = [e for e in self._broken if e.serving]
        ejected = [e for e in serving if e.breaker is Breaker.EJECTED]
        surplus = len(serving) - self.ready // 2
        for endpoint in sorted(ejected, key=lambda e: e.paused_until)[: max(surplus, 0)]:
            self._close_breaker(endpoint)

    def _open(self, endpoint: Endpoint, breaker: Breaker, until: float) -> None:
        endpoint.breaker = breaker
        endpoint.probing = False
        self._broken[endpoint] = None
        if endpoint is self.emptying:
            self.emptying = None
        self._pause_until(endpoint, until)
        self._place(endpoint)

    def _pause_until(self, endpoint: Endpoint, until: float) -> None:
        endpoint.paused_until = until
        self._recovery_at = min(self._recovery_at, until)

    def _close_breaker(self, endpoint: Endpoint) -> None:
        if endpoint.breaker is None:
            return
        if endpoint.breaker is Breaker.EJECTED:
            endpoint.returned_at = self._now
        endpoint.breaker, endpoint.paused_until, endpoint.failures = None, 0.0, 0
        endpoint.probing = False
        self._broken.pop(endpoint, None)
        self._place(endpoint)

    def _recover(self, now: float) -> None:
        """List the pods whose pause is over."""
        self._now = now
        self._recovery_at = math.inf
        for endpoint in self._broken:
            if endpoint.paused_until > now:
                self._recovery_at = min(self._recovery_at, endpoint.paused_until)
            elif not endpoint.listed_seats:
                self._place(endpoint)

    def next_recovery(self, now: float) -> float | None:
        """Monotonic time of the end of the next pause; None when no pod is paused."""
        times = [e.paused_until for e in self._broken if e.serving and e.paused_until > now]
        return min(times, default=None)

"""Pods, their seats, and which pod gets a request.

A *seat* is one running sequence of the engine's batch.  The gateway never puts more than ``seats``
requests on a pod and picks the pod only when a seat is given (late binding), so a long generation on
one pod delays nobody who could run on another.

A pod that cannot be reached is left alone for a time that doubles with each failure, then tried
with a single request (a circuit breaker in the usual three states: closed, open, half-open).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

FIRST_PAUSE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 10.0
FAILURES_BEFORE_PAUSE = 3


@dataclass(slots=True, eq=False)
class Endpoint:
    """One pod: its seats, and how it has behaved lately."""

    address: str
    seats: int
    serving: bool = True
    in_flight: int = 0
    failures: int = 0
    paused_until: float = 0.0
    probing: bool = False
    gone: bool = False

    def has_room(self, now: float) -> bool:
        """A request may be given to this pod now."""
        return (
            self.serving
            and self.in_flight < self.seats
            and (self.paused_until == 0.0 or (self.paused_until <= now and not self.probing))
        )


class EndpointPool:
    """The pods of one route.  All methods are O(pods), but for an idle pod the first is enough."""

    def __init__(self) -> None:
        self._endpoints: dict[str, Endpoint] = {}
        self._order: list[Endpoint] = []
        self._turn = 0
        self.ready = 0
        """Pods that may get new requests (breaker or not: that is our view, not theirs)."""
        self.seats = 0
        """Seats on these pods, taken or not."""

    def __iter__(self) -> Iterator[Endpoint]:
        return iter(self._order)

    @property
    def known(self) -> int:
        """Pods that exist in any state, draining ones with work included."""
        return len(self._order)

    def has_more_free_than(self, count: int, now: float) -> bool:
        """Whether more than so many seats could be given now: a pod that drains has none to give."""
        for endpoint in self._order:
            if endpoint.has_room(now):
                count -= endpoint.seats - endpoint.in_flight
                if count < 0:
                    return True
        return False

    def update(self, readiness: Mapping[str, bool], seats_per_replica: int) -> None:
        """Take over the discovered pods: address -> may get new requests.

        A pod that left but still has requests running stays known, without new work, until the
        last of them ends; should its address come back, its running requests still count.
        """
        for address, ready in readiness.items():
            endpoint = self._endpoints.get(address)
            if endpoint is None:
                endpoint = Endpoint(address, seats_per_replica)
                self._endpoints[address] = endpoint
            if ready and not endpoint.serving:  # a new start: old failures say nothing about it
                endpoint.failures, endpoint.paused_until, endpoint.probing = 0, 0.0, False
            endpoint.serving = ready
            endpoint.gone = False
            endpoint.seats = seats_per_replica
        for address, endpoint in self._endpoints.items():
            if address not in readiness:
                endpoint.serving, endpoint.gone = False, True
        self._forget()

    def _forget(self) -> None:
        left = [e for e in self._endpoints.values() if not e.gone or e.in_flight]
        self._endpoints = {e.address: e for e in left}
        self._order = left
        self.ready = sum(e.serving for e in left)
        self.seats = sum(e.seats for e in left if e.serving)

    def choose(self, now: float, avoid: Collection[str] = ()) -> Endpoint | None:
        """Least in flight among pods with room, in turn when equal; None when all are full."""
        order = self._order
        count = len(order)
        best: Endpoint | None = None
        least = 0
        self._turn += 1
        start = self._turn % count if count else 0
        for index in range(start, start + count):
            endpoint = order[index if index < count else index - count]
            running = endpoint.in_flight
            if (
                (best is None or running < least)
                and endpoint.has_room(now)
                and endpoint.address not in avoid
            ):
                best, least = endpoint, running
                if running == 0:  # nobody has less
                    break
        return best

    def has_other(self, avoid: Collection[str]) -> bool:
        """A ready pod outside ``avoid`` exists, free or not."""
        return any(e.serving and e.address not in avoid for e in self._order)

    def acquire(self, endpoint: Endpoint) -> None:
        """Take one seat; the caller got ``endpoint`` from :meth:`choose` at the same instant."""
        endpoint.in_flight += 1
        if endpoint.paused_until:
            endpoint.probing = True

    def release(self, endpoint: Endpoint) -> None:
        """Give the seat back, and forget a pod that is gone once its last request ended."""
        endpoint.in_flight -= 1
        endpoint.probing = False
        if endpoint.gone and endpoint.in_flight == 0:
            self._forget()

    def succeeded(self, endpoint: Endpoint) -> None:
        """The pod answered: close its breaker."""
        if endpoint.failures or endpoint.paused_until:
            endpoint.failures, endpoint.paused_until, endpoint.probing = 0, 0.0, False

    def failed(self, endpoint: Endpoint, now: float, *, unreachable: bool) -> None:
        """The pod broke a request; ``unreachable`` (no connection at all) opens the breaker at once.

        Requests that die together with a pod count once: what fails while it is paused is old news.
        """
        endpoint.probing = False
        if endpoint.paused_until > now:
            return
        endpoint.failures += 1
        strikes = endpoint.failures - (0 if unreachable else FAILURES_BEFORE_PAUSE - 1)
        if strikes > 0:
            self.pause(endpoint, now, FIRST_PAUSE_SECONDS * 2.0 ** min(strikes - 1, 10))

    def pause(self, endpoint: Endpoint, now: float, seconds: float) -> None:
        """Give the pod nothing for a while (a pod that drains says how long)."""
        until = now + min(seconds, LONGEST_PAUSE_SECONDS)
        endpoint.paused_until = max(endpoint.paused_until, until)
        endpoint.probing = False

    def next_recovery(self, now: float) -> float | None:
        """When the next paused pod may be tried again; None when nothing is paused."""
        times = [e.paused_until for e in self._order if e.serving and e.paused_until > now]
        return min(times, default=None)

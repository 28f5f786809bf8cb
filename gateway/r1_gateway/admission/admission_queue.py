"""Admission of one route: bounded queues per class, strict priority order, ageing.

Order: the most urgent class with a queued request starts first; the order inside a class is that of
its queue (:mod:`~r1_gateway.admission.class_queue`).  One dispatch in ten may be an override for less urgent classes.  It is due when the head of
a queue is older than its class's ``ageAfterSeconds``.  Overrides go to the classes between the most
urgent one with queued requests and the least urgent aged one, to Q2 twice as often as to Q3.  So
while all classes have queued requests, a less urgent class never gets more seats than a more urgent
one, and an aged class always gets some.

A class with an SLO target for its time to first token has reserved seats
(:mod:`~r1_gateway.admission.seat_reservation`).  A less urgent request starts only while that many
seats stay free.  An override ignores the reservation.

A *wide* request needs several seats of one pod at once (``n`` choices, a list of prompts), at most
the seats of a pod.  While it fits on no pod, one pod gets no new requests except from more urgent
classes.  Once the wide request is aged and an override is due, it gets none from these either.

A 429 reserves a place for the client's return
(:mod:`~r1_gateway.admission.reserved_returns`).

This module reads no clock and no socket.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

from r1_common.contracts.priority_classes import CLASSES, ClassPolicy, PriorityClass
from r1_gateway.admission.class_queue import ClassQueue, FifoQueue
from r1_gateway.admission.drain_rate import DrainRate
from r1_gateway.admission.endpoint_pool import Endpoint, EndpointPool
from r1_gateway.admission.reserved_returns import (
    LONGEST_SECONDS,
    SHORTEST_SECONDS,
    ReservedReturn,
    ReservedReturns,
)
from r1_gateway.admission.seat_reservation import SeatReservation
from r1_gateway.admission.ticket import Rejection, Ticket, TicketState
from r1_gateway.tenants.caller import ANONYMOUS, Caller

Item = TypeVar("Item")

DISPATCHES_PER_OVERRIDE = 10
OVERRIDE_TURNS = (PriorityClass.Q2, PriorityClass.Q2, PriorityClass.Q3)
BYPASSED = 16
"""Queued requests that later ones may pass, because no pod has enough free seats for them."""
HOPELESS = 1.25
"""A request is refused at arrival when its predicted wait exceeds its client's deadline by this."""


# Looking a member up through its class costs a fifth of a microsecond, several times a request.
_QUEUED, _RUNNING, _DONE = TicketState.QUEUED, TicketState.RUNNING, TicketState.DONE


class Admission(Generic[Item]):
    """Queues of one route in front of its pods.  Amortised O(log queue) per request."""

    def __init__(
        self,
        policies: Sequence[ClassPolicy],
        pool: EndpointPool,
        new_queue: Callable[[], ClassQueue[Item]] = FifoQueue,
    ) -> None:
        """``new_queue`` makes the queue of a class."""
        self._policies = tuple(policies)
        self._reservation = SeatReservation(self._policies)
        self.pool = pool
        self.in_flight = [0] * len(CLASSES)
        self._queues: tuple[ClassQueue[Item], ...] = tuple(new_queue() for _ in CLASSES)
        self.displaced: list[Ticket[Item]] = []
        """Requests that left a full queue for the last arrival; the caller answers and clears them."""
        self.waiting = 0
        """Requests in all queues."""
        self._deadlines: list[tuple[float, int, Ticket[Item]]] = []
        self._sequence = 0
        self._since_override = 0
        self._override_turn = 0
        self._wide: Ticket[Item] | None = None  # the pool empties a pod for it
        self._wide_is_aged = False
        self._drain = DrainRate()
        self._returns = tuple(ReservedReturns() for _ in CLASSES)

    @property
    def policies(self) -> tuple[ClassPolicy, ...]:
        """Limits and SLO target of each class; queued requests keep their places when these change."""
        return self._policies

    @policies.setter
    def policies(self, policies: Sequence[ClassPolicy]) -> None:
        self._policies = tuple(policies)
        self._reservation.set_targets(self._policies)

    def reserve_seats(self, seats: Mapping[PriorityClass, int], until: float) -> None:
        """Reserve at least ``seats`` for each class and those above it until ``until``."""
        self._reservation.reserve_seats(seats, until)

    @property
    def occupancy_seconds(self) -> float | None:
        """Recent mean of the seconds that a request occupies its seat.

        None before a request has ended, and without an SLO target.
        """
        return self._reservation.occupancy_seconds

    def reserved_against(self, klass: PriorityClass, now: float) -> tuple[int, int]:
        """Seats that a request of ``klass`` must leave free, and the operator's part of them."""
        if not self._reservation.applies_to(klass):
            return 0, 0
        reserved = self._reservation.reserved_against(klass, self.pool.available_seats, now)
        return reserved, min(reserved, self._reservation.reserved_by_operator(klass, now))

    # -- arrival -------------------------------------------------------------------------------

    def offer(
        self,
        item: Item,
        klass: PriorityClass,
        now: float,
        client_timeout: float | None = None,
        *,
        width: int = 1,
        reserved_return: ReservedReturn | None = None,
        identity: Callable[[], int] = lambda: 0,
        caller: Caller = ANONYMOUS,
        cost: float = 1.0,
        size: int = 0,
    ) -> Ticket[Item] | Rejection:
        """Start a request when a seat is free and no request is queued, else queue or reject it.

        A full queue rejects the request, unless it is next in order and can start now, or displaces
        another one.  A request whose predicted wait is longer than ``client_timeout`` is rejected.

        ``client_timeout`` is the client's own limit in seconds; the class's queue timeout also
        applies.  ``reserved_return`` is the place that an earlier 429 on the same connection
        reserved.  ``identity`` is the same for a request that is sent again.  ``cost`` is its
        estimated tokens, ``size`` the bytes of its body.
        """
        policy = self._policies[klass]
        timeout = policy.max_queue_seconds
        if client_timeout is not None and client_timeout < timeout:
            timeout = client_timeout
        ticket = Ticket(item, klass, now, now + timeout)
        ticket.width, ticket.caller, ticket.cost, ticket.size = width, caller, cost, size
        if self._reservation.active:
            self._reservation.arrived(klass, now)
        returns = self._returns[klass]
        returned = (reserved_return is not None or returns.open) and returns.claim(
            reserved_return, now, identity()
        )
        reserved = self._reservation.active and self._is_reserved(klass, now, width)
        if not self.waiting and not reserved:
            endpoint = self.pool.choose(now, (), width)
            if endpoint is not None:
                self._start(ticket, endpoint, now)
                if self._since_override < DISPATCHES_PER_OVERRIDE - 1:
                    self._since_override += 1
                return ticket
        if client_timeout is not None and self._drain.measured and self.pool.available_seats:
            seconds = self.predicted_wait(klass, now, caller)
            if seconds > HOPELESS * client_timeout:
                return Rejection(
                    "DeadlineUnreachable",
                    f"the predicted wait of {seconds:.1f} s is longer than the deadline of "
                    f"{client_timeout:.1f} s",
                    round(min(max(seconds, SHORTEST_SECONDS), LONGEST_SECONDS)),
                )
        queue = self._queues[klass]
        length, limit = len(queue), policy.max_queue_length
        places = 0
        if not returned and returns.open and 2 * length >= limit:
            rate = self._drain.per_second(klass, self.pool.available_seats, now)
            places = min(
                returns.reserved_places(now, rate, self._drain.occupancy_seconds), limit // 2
            )
        if length + places < limit:
            self._enqueue(ticket)
            return ticket
        endpoint = self._endpoint_for(ticket, now)
        if endpoint is not None and not self._others_could_start(klass, now):
            self._start(ticket, endpoint, now)
            return ticket
        displaced = queue.displaced_by(caller) if limit else None
        if displaced is not None:
            self._remove(displaced)
            displaced.state = _DONE
            self.displaced.append(displaced)
            self._enqueue(ticket)
            return ticket
        seconds, reserved_return = self.reserve_return(klass, now, identity())
        returning = f", {places} places are reserved for returning clients" if places else ""
        return Rejection(
            "QueueFull",
            f"the {klass.name} queue is full: {length} of {limit} requests are queued{returning}; "
            f"retry after {seconds} s",
            seconds,
            reserved_return,
        )

    def _endpoint_for(self, ticket: Ticket[Item], now: float) -> Endpoint | None:
        """A pod on which the request could start now, regardless of the queue order."""
        klass, width = ticket.klass, ticket.width
        if self._is_reserved(klass, now, width):
            return None
        return self.pool.choose(
            now, ticket.avoid, width, emptying=self._wide is not None and self._may_empty(ticket)
        )

    def _others_could_start(self, klass: PriorityClass, now: float) -> bool:
        """Whether a queued request of this class or above could start now."""
        for queue in self._queues[: klass + 1]:
            for passed, ticket in enumerate(queue.candidates()):
                if self._endpoint_for(ticket, now) is not None:
                    return True
                if passed == BYPASSED or not (ticket.avoid or ticket.width > 1):
                    break
        return False

    def _enqueue(self, ticket: Ticket[Item], *, first: bool = False) -> None:
        queue = self._queues[ticket.klass]
        ticket.state = _QUEUED
        if first:
            queue.push_first(ticket)
        else:
            queue.push(ticket)
        self.waiting += 1
        self._sequence += 1
        if len(self._deadlines) > 2 * self.waiting + 64:  # mostly of requests that ended long ago
            self._deadlines = [d for d in self._deadlines if d[2].state is _QUEUED]
            heapq.heapify(self._deadlines)
        heapq.heappush(self._deadlines, (ticket.deadline, self._sequence, ticket))

    def _remove(self, ticket: Ticket[Item]) -> None:
        self._queues[ticket.klass].remove(ticket)
        self.waiting -= 1
        if ticket is self._wide:
            self._wide = None
            self.pool.stop_emptying()

    # -- dispatching ---------------------------------------------------------------------------

    def _start(self, ticket: Ticket[Item], endpoint: Endpoint, now: float) -> None:
        ticket.taken = self.pool.acquire(endpoint, ticket.width)
        ticket.started = now
        ticket.state = _RUNNING
        ticket.endpoint = endpoint
        klass = ticket.klass
        self.in_flight[klass] += 1
        self._queues[klass].charge(ticket)
        self._drain.started(klass, now)

    def start_next(self, now: float) -> Ticket[Item] | None:
        """Start the next request in order; None when none can start.

        Call :meth:`expire` first: a request past its deadline must never start.
        """
        if not self.waiting or self.pool.choose(now, emptying=self._wide is not None) is None:
            return None
        override_due = self._since_override >= DISPATCHES_PER_OVERRIDE - 1
        if override_due:
            for klass in self._override_order(now):
                if ticket := self._start_from(klass, now, override=True):
                    self._since_override = 0
                    return ticket
        for klass in CLASSES:
            if not self._queues[klass]:
                continue
            if self._is_reserved(klass, now):
                return None  # no less urgent request may pass it
            if ticket := self._start_from(klass, now):
                if not override_due:
                    self._since_override += 1
                return ticket
        return None

    def _is_reserved(self, klass: PriorityClass, now: float, width: int = 1) -> bool:
        """Whether all free seats are reserved for more urgent classes."""
        if not self._reservation.applies_to(klass):
            return False
        seats = self.pool.available_seats
        reserved = self._reservation.reserved_against(klass, seats, now)
        if width > 1:  # with too few seats for both, a wide request starts when all are free
            reserved = min(reserved + width, seats) - 1
        return not self.pool.has_more_free_than(reserved, now)

    def _override_order(self, now: float) -> list[PriorityClass]:
        """Classes that an override may start, in the order of the override turns."""
        aged = [klass for klass in CLASSES[1:] if self._is_aged(klass, now)]
        if not aged:
            return []
        waiting = [klass for klass in CLASSES if self._queues[klass]]
        due = [klass for klass in waiting[1:] if klass <= aged[-1]]
        if len(due) > 1:
            turn = OVERRIDE_TURNS[self._override_turn]
            self._override_turn = (self._override_turn + 1) % len(OVERRIDE_TURNS)
            due.sort(key=lambda klass: (klass is not turn, klass))
        return due

    def _is_aged(self, klass: PriorityClass, now: float) -> bool:
        queue = self._queues[klass]
        if not queue or not any(self._queues[: klass.value]):
            return False
        head = next(iter(queue))
        return now - head.arrived >= self.policies[klass].age_after_seconds

    def _start_from(
        self, klass: PriorityClass, now: float, *, override: bool = False
    ) -> Ticket[Item] | None:
        """Start the first request of the class that fits on a pod; none passes a narrow one."""
        queue = self._queues[klass]
        head = queue.first()
        if head is not None and head.width == 1 and not head.avoid:  # the usual case
            endpoint = self.pool.choose(
                now, emptying=self._wide is not None and self._may_empty(head)
            )
            if endpoint is None:
                return None
            self._start(head, endpoint, now)  # first, so that the queue charges its tenant
            self._remove(head)
            return head
        for passed, ticket in enumerate(queue.candidates()):
            width = ticket.width
            if width > 1 and not override and self._is_reserved(klass, now, width):
                endpoint = None
            else:
                endpoint = self.pool.choose(
                    now,
                    ticket.avoid,
                    width,
                    emptying=self._wide is not None and self._may_empty(ticket),
                )
            if endpoint is not None:
                self._start(ticket, endpoint, now)  # first, so that the queue charges its tenant
                self._remove(ticket)
                return ticket
            if width > 1:
                self._empty_for(ticket, now)
            if passed == BYPASSED or not (ticket.avoid or width > 1):
                return None
        return None

    # -- wide requests -------------------------------------------------------------------------

    def _may_empty(self, ticket: Ticket[Item]) -> bool:
        """Whether ``ticket`` may run on the pod that is emptied for a wide request."""
        wide = self._wide
        if wide is None or wide is ticket:
            return True
        return ticket.klass < wide.klass and not self._wide_is_aged

    def _empty_for(self, ticket: Ticket[Item], now: float) -> None:
        """Empty a pod for this request, unless a pod is being emptied for another."""
        wide, pool = self._wide, self.pool
        if wide is not ticket and wide is not None and ticket.klass >= wide.klass:
            return
        if wide is not ticket or pool.emptying is None:
            pool.start_emptying(now, ticket.avoid)
            self._wide = ticket if pool.emptying is not None else None
            self._wide_is_aged = False
        if self._since_override >= DISPATCHES_PER_OVERRIDE - 1:
            age = self._policies[ticket.klass].age_after_seconds
            self._wide_is_aged = self._wide_is_aged or now - ticket.arrived >= age

    # -- ending --------------------------------------------------------------------------------

    def finish(self, ticket: Ticket[Item], now: float, cost: float | None = None) -> bool:
        """End a request and free its seat or its place in the queue, once.

        ``cost`` is the tokens that it used; None: as estimated.  False when it had ended before: a
        second call changes nothing.
        """
        if ticket.state is _RUNNING:
            seconds = now - ticket.started
            self._drain.freed(ticket.taken * seconds, now)
            self._give_back(ticket)
            if self._reservation.active:
                self._reservation.released(seconds)
        elif ticket.state is _QUEUED:
            self._remove(ticket)
        else:
            return False
        ticket.state = _DONE
        if ticket.charged:
            self._queues[ticket.klass].settle(ticket, ticket.charged if cost is None else cost)
        return True

    def _give_back(self, ticket: Ticket[Item]) -> None:
        assert ticket.endpoint is not None  # noqa: S101 - a running request has a pod
        self.pool.release(ticket.endpoint, ticket.taken)
        ticket.endpoint = None
        self.in_flight[ticket.klass] -= 1
        if not self.in_flight[ticket.klass]:
            self._drain.idle = not any(self.in_flight)

    def retry(
        self,
        ticket: Ticket[Item],
        *,
        avoid: str | None = None,
        deadline: float | None = None,
    ) -> None:
        """Free the seat and queue the request again, in front, for a pod other than ``avoid``.

        Without a new ``deadline`` the old one stays, so repeated retries end in time.
        """
        self._give_back(ticket)
        if avoid is not None:
            ticket.avoid |= {avoid}
        if deadline is not None:
            ticket.deadline = deadline
        self._enqueue(ticket, first=True)

    def expire(self, now: float) -> list[Ticket[Item]]:
        """Remove and return the queued requests whose deadline is at or before ``now``."""
        expired: list[Ticket[Item]] = []
        deadlines = self._deadlines
        while deadlines and (deadlines[0][0] <= now or deadlines[0][2].state is not _QUEUED):
            _, _, ticket = heapq.heappop(deadlines)
            if ticket.state is _QUEUED and ticket.deadline <= now:
                self._remove(ticket)
                ticket.state = _DONE
                if ticket.charged:  # a retry that found no seat
                    self._queues[ticket.klass].settle(ticket, 0.0)
                expired.append(ticket)
        return expired

    def drain(self) -> list[Ticket[Item]]:
        """Remove and return all queued requests."""
        waiting = [ticket for queue in self._queues for ticket in queue]
        for ticket in waiting:
            self._remove(ticket)
            ticket.state = _DONE
            if ticket.charged:
                self._queues[ticket.klass].settle(ticket, 0.0)
        self._deadlines.clear()
        return waiting

    # -- reading -------------------------------------------------------------------------------

    def queued(self, klass: PriorityClass) -> int:
        """Requests in one queue."""
        return len(self._queues[klass])

    def oldest_wait(self, klass: PriorityClass, now: float) -> float:
        """Seconds that the head of the queue has waited; 0 for an empty queue."""
        queue = self._queues[klass]
        return now - next(iter(queue)).arrived if queue else 0.0

    def next_event(self, now: float) -> float | None:
        """Monotonic time of the next deadline in the queue or end of a pod's pause, or None."""
        if not self.waiting:
            return None
        times = [t for t in (self.pool.next_recovery(now),) if t is not None]
        if self._deadlines:
            times.append(self._deadlines[0][0])
        return min(times, default=None)

    def reserve_return(
        self, klass: PriorityClass, now: float, identity: int = 0
    ) -> tuple[int, ReservedReturn | None]:
        """Seconds until a rejected client may return, and the place reserved for then."""
        drain = self._drain
        rate = drain.per_second(klass, self.pool.available_seats, now)
        places = self._policies[klass].max_queue_length // 2
        return self._returns[klass].reserve(now, rate, drain.occupancy_seconds, places, identity)

    def predicted_wait(
        self, klass: PriorityClass, now: float, caller: Caller | None = None
    ) -> float:
        """Expected seconds until a request of ``caller`` that arrives now gets a seat.

        The requests of more urgent classes go first, and those of its own class that the order of
        the queue puts before it (all of them without a ``caller``).  Reserved returns count as
        queued.  ``LONGEST_SECONDS`` while no seat is freed.
        """
        seats = self.pool.available_seats
        seconds = 0.0
        for above in CLASSES[: klass + 1]:
            queue, returns = self._queues[above], self._returns[above]
            ahead = float(len(queue))
            if ahead and above == klass and caller is not None:
                ahead = queue.ahead_of(caller)
            if ahead or returns.open:
                rate = self._drain.per_second(above, seats, now)
                if returns.open:
                    ahead += returns.reserved_places(now, rate, self._drain.occupancy_seconds)
                seconds += ahead / rate if rate > 0.0 else LONGEST_SECONDS
        return seconds

    def retry_after(self, klass: PriorityClass, now: float) -> float:
        """The predicted wait as a time to return, 1 to 60 seconds."""
        seconds = self.predicted_wait(klass, now)
        return min(max(seconds, SHORTEST_SECONDS), LONGEST_SECONDS)

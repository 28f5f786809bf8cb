"""Who gets the next seat: bounded queues per class, strict order, ageing.

The state machine of a request is ``QUEUED -> RUNNING -> DONE``, with ``RUNNING -> QUEUED`` for a
request that is tried again on another pod, and ``QUEUED -> DONE`` for one that left or expired.

Order: the most urgent class that has a request goes first, first come first served inside it.  One
dispatch in ten may be an override, so that the less urgent classes get on as well: it is due when a
head of queue is older than its class's ``ageAfterSeconds``.  Overrides go to the classes between the
most urgent one that waits and the least urgent aged one, Q2 twice as often as Q3.  So while all
classes have requests waiting, a less urgent class never gets more than a more urgent one, and an
aged one always gets something.

A class that promises a time to first token has seats held back for it (``holdback``): a less urgent
request starts only while enough of them stay free.  An override ignores that.

A request may be *wide*: it needs several seats of one pod at once (``n`` choices, a list of
prompts), but never more than a pod has.  When it does not fit anywhere, one pod gets no new work
until it does, except from more urgent classes; once it is aged, as an override, not from them either.

``Retry-After`` is a promise (:mod:`~r1_gateway.admission.reserved_returns`): the queue keeps a place for a
client that returns at that time.

Nothing here reads a clock or touches a socket.
"""

from __future__ import annotations

import enum
import heapq
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from r1_gateway.admission.classes import CLASSES, ClassPolicy, PriorityClass
from r1_gateway.admission.drain_rate import DrainRate
from r1_gateway.admission.endpoint_pool import Endpoint, EndpointPool
from r1_gateway.admission.reserved_returns import (
    LONGEST_SECONDS,
    SHORTEST_SECONDS,
    ReservedReturn,
    ReservedReturns,
)
from r1_gateway.admission.seat_reservation import SeatReservation

Item = TypeVar("Item")

DISPATCHES_PER_OVERRIDE = 10
OVERRIDE_TURNS = (PriorityClass.Q2, PriorityClass.Q2, PriorityClass.Q3)
BYPASSED = 16
"""Waiting requests that others behind them may pass, because they fit on no pod that has room."""


class TicketState(enum.Enum):
    """Where a request is on its way."""

    QUEUED = enum.auto()
    RUNNING = enum.auto()
    DONE = enum.auto()


# Looking a member up through its class costs a fifth of a microsecond, several times a request.
_QUEUED, _RUNNING, _DONE = TicketState.QUEUED, TicketState.RUNNING, TicketState.DONE


@dataclass(slots=True, eq=False)
class Ticket(Generic[Item]):
    """A request's place: class, when it came, when it stops waiting, where it runs and since when."""

    item: Item
    klass: PriorityClass
    arrived: float
    deadline: float
    state: TicketState = _QUEUED
    endpoint: Endpoint | None = None
    avoid: frozenset[str] = frozenset()
    started: float = 0.0
    width: int = 1
    taken: int = 0
    """seats that it holds while it runs"""


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a request may not even wait, and after how many seconds its client may return."""

    reason: str
    message: str
    retry_after_seconds: int
    promise: ReservedReturn | None = None


class Admission(Generic[Item]):
    """Queues of one route in front of its pods.  Amortised O(log queue) per request."""

    def __init__(self, policies: Sequence[ClassPolicy], pool: EndpointPool) -> None:
        self._policies = tuple(policies)
        self._holdback = SeatReservation(self._policies)
        self.pool = pool
        self.in_flight = [0] * len(CLASSES)
        self._queues: tuple[OrderedDict[Ticket[Item], None], ...] = tuple(
            OrderedDict() for _ in CLASSES
        )
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
        """Bounds and promises of each class; what waits keeps its place when they change."""
        return self._policies

    @policies.setter
    def policies(self, policies: Sequence[ClassPolicy]) -> None:
        self._policies = tuple(policies)
        self._holdback.promise(self._policies)

    def advise(self, seats: Mapping[PriorityClass, int], until: float) -> None:
        """Keep at least so many seats free for each class and those above it, until then."""
        self._holdback.advise(seats, until)

    @property
    def held_seconds(self) -> float | None:
        """How long a request holds its seat, lately; None where nothing ended, or is promised."""
        return self._holdback.held_seconds

    def held_back(self, klass: PriorityClass, now: float) -> tuple[int, int]:
        """Seats that a request of ``klass`` has to leave free, and how many of them are advised."""
        if not self._holdback.holds_against(klass):
            return 0, 0
        kept = self._holdback.reserve(klass, self.pool.available_seats, now)
        return kept, min(kept, self._holdback.advised(klass, now))

    # -- arriving ------------------------------------------------------------------------------

    def offer(
        self,
        item: Item,
        klass: PriorityClass,
        now: float,
        give_up_after: float | None = None,
        *,
        width: int = 1,
        promise: ReservedReturn | None = None,
        identity: Callable[[], int] = lambda: 0,
    ) -> Ticket[Item] | Rejection:
        """Take a request in: running at once when a seat is free and nobody waits, else queued.

        What does not fit in the queue is refused, unless it is its turn and it could start now.

        ``give_up_after`` is the client's own patience in seconds; the class's maximum also holds.
        ``promise`` is what a former refusal on the same connection promised.  ``identity`` tells a
        request that is sent again from others.
        """
        policy = self._policies[klass]
        patience = policy.max_queue_seconds
        if give_up_after is not None and give_up_after < patience:
            patience = give_up_after
        ticket = Ticket(item, klass, now, now + patience)
        ticket.width = width
        if self._holdback.active:
            self._holdback.arrived(klass, now)
        returns = self._returns[klass]
        returned = (promise is not None or returns.open) and returns.claim(promise, now, identity())
        held_back = self._holdback.active and self._is_held_back(klass, now, width)
        if not self.waiting and not held_back:
            endpoint = self.pool.choose(now, (), width)
            if endpoint is not None:
                self._start(ticket, endpoint, now)
                if self._since_override < DISPATCHES_PER_OVERRIDE - 1:
                    self._since_override += 1
                return ticket
        length, limit = len(self._queues[klass]), policy.max_queue_length
        reserved = 0
        if not returned and returns.open and 2 * length >= limit:
            rate = self._drain.per_second(klass, self.pool.available_seats, now)
            reserved = min(returns.reserved(now, rate, self._drain.held_seconds), limit // 2)
        if length + reserved < limit:
            self._enqueue(ticket)
            return ticket
        endpoint = self._room_for(ticket, now)
        if endpoint is not None and not self._is_room_for_others(klass, now):
            self._start(ticket, endpoint, now)
            return ticket
        seconds, promise = self.promise_return(klass, now, identity())
        kept = f", {reserved} places are kept for returning clients" if reserved else ""
        return Rejection(
            "QueueFull",
            f"the {klass.name} queue is full ({length} of {limit} waiting{kept})",
            seconds,
            promise,
        )

    def _room_for(self, ticket: Ticket[Item], now: float) -> Endpoint | None:
        """A pod on which the request may start now, were it its turn."""
        klass, width = ticket.klass, ticket.width
        if self._is_held_back(klass, now, width):
            return None
        return self.pool.choose(
            now, ticket.avoid, width, emptying=self._wide is not None and self._may_empty(ticket)
        )

    def _is_room_for_others(self, klass: PriorityClass, now: float) -> bool:
        """Whether one that waits in this class or above could start now."""
        for queue in self._queues[: klass + 1]:
            for passed, ticket in enumerate(queue):
                if self._room_for(ticket, now) is not None:
                    return True
                if passed == BYPASSED or not (ticket.avoid or ticket.width > 1):
                    break
        return False

    def _enqueue(self, ticket: Ticket[Item], *, first: bool = False) -> None:
        queue = self._queues[ticket.klass]
        ticket.state = _QUEUED
        queue[ticket] = None
        if first:
            queue.move_to_end(ticket, last=False)
        self.waiting += 1
        self._sequence += 1
        if len(self._deadlines) > 2 * self.waiting + 64:  # mostly requests that left long ago
            self._deadlines = [d for d in self._deadlines if d[2].state is _QUEUED]
            heapq.heapify(self._deadlines)
        heapq.heappush(self._deadlines, (ticket.deadline, self._sequence, ticket))

    def _remove(self, ticket: Ticket[Item]) -> None:
        del self._queues[ticket.klass][ticket]
        self.waiting -= 1
        if ticket is self._wide:
            self._wide = None
            self.pool.keep_filling()

    # -- dispatching ---------------------------------------------------------------------------

    def _start(self, ticket: Ticket[Item], endpoint: Endpoint, now: float) -> None:
        ticket.taken = self.pool.acquire(endpoint, ticket.width)
        ticket.started = now
        ticket.state = _RUNNING
        ticket.endpoint = endpoint
        self.in_flight[ticket.klass] += 1
        self._drain.started(ticket.klass, now)

    def start_next(self, now: float) -> Ticket[Item] | None:
        """Give free seats to the request whose turn it is; None when no one can start.

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
            if self._is_held_back(klass, now):
                return None  # and nobody less urgent may pass it
            if ticket := self._start_from(klass, now):
                if not override_due:
                    self._since_override += 1
                return ticket
        return None

    def _is_held_back(self, klass: PriorityClass, now: float, width: int = 1) -> bool:
        """Whether the free seats are being kept for classes above this one."""
        if not self._holdback.holds_against(klass):
            return False
        seats = self.pool.available_seats
        kept = self._holdback.reserve(klass, seats, now)
        if width > 1:  # a request as wide as all seats that may be left starts when all are free
            kept = min(kept + width, seats) - 1
        return not self.pool.has_more_free_than(kept, now)

    def _override_order(self, now: float) -> list[PriorityClass]:
        """Classes that an override may start, the one whose turn it is first."""
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
        """Start the first of the class that fits on a pod with room, and none behind a narrow one."""
        for passed, ticket in enumerate(self._queues[klass]):
            width = ticket.width
            if width > 1 and not override and self._is_held_back(klass, now, width):
                endpoint = None
            else:
                endpoint = self.pool.choose(
                    now,
                    ticket.avoid,
                    width,
                    emptying=self._wide is not None and self._may_empty(ticket),
                )
            if endpoint is not None:
                self._remove(ticket)
                self._start(ticket, endpoint, now)
                return ticket
            if width > 1:
                self._empty_for(ticket, now)
            if passed == BYPASSED or not (ticket.avoid or width > 1):
                return None
        return None

    # -- wide requests -------------------------------------------------------------------------

    def _may_empty(self, ticket: Ticket[Item]) -> bool:
        """Whether ``ticket`` may use the pod that is emptied for a wide request."""
        wide = self._wide
        if wide is None or wide is ticket:
            return True
        return ticket.klass < wide.klass and not self._wide_is_aged

    def _empty_for(self, ticket: Ticket[Item], now: float) -> None:
        """Let a pod become free enough for this request, unless one is emptied for another."""
        wide, pool = self._wide, self.pool
        if wide is not ticket and wide is not None and ticket.klass >= wide.klass:
            return
        if wide is not ticket or pool.emptying is None:
            pool.empty(now, ticket.avoid)
            self._wide = ticket if pool.emptying is not None else None
            self._wide_is_aged = False
        if self._since_override >= DISPATCHES_PER_OVERRIDE - 1:
            age = self._policies[ticket.klass].age_after_seconds
            self._wide_is_aged = self._wide_is_aged or now - ticket.arrived >= age

    # -- leaving -------------------------------------------------------------------------------

    def finish(self, ticket: Ticket[Item], now: float) -> bool:
        """The request is over, or its client went away; frees its place exactly once.

        True when it had one: a second call changes nothing.
        """
        if ticket.state is _RUNNING:
            held = now - ticket.started
            self._drain.freed(ticket.taken * held, now)
            self._give_back(ticket)
            if self._holdback.active:
                self._holdback.released(held)
        elif ticket.state is _QUEUED:
            self._remove(ticket)
        else:
            return False
        ticket.state = _DONE
        return True

    def _give_back(self, ticket: Ticket[Item]) -> None:
        assert ticket.endpoint is not None  # noqa: S101 - RUNNING implies a pod
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
        """Give the seat back and wait again, in front, for a seat on a pod that is not ``avoid``.

        Without a new ``deadline`` the old one stays, so that a request which finds no pod again and
        again still gives up in time.
        """
        self._give_back(ticket)
        if avoid is not None:
            ticket.avoid |= {avoid}
        if deadline is not None:
            ticket.deadline = deadline
        self._enqueue(ticket, first=True)

    def expire(self, now: float) -> list[Ticket[Item]]:
        """Take out everybody whose patience has ended (deadline at or before ``now``)."""
        expired: list[Ticket[Item]] = []
        deadlines = self._deadlines
        while deadlines and (deadlines[0][0] <= now or deadlines[0][2].state is not _QUEUED):
            _, _, ticket = heapq.heappop(deadlines)
            if ticket.state is _QUEUED and ticket.deadline <= now:
                self._remove(ticket)
                ticket.state = _DONE
                expired.append(ticket)
        return expired

    def drain(self) -> list[Ticket[Item]]:
        """Take out everybody who waits."""
        waiting = [ticket for queue in self._queues for ticket in queue]
        for ticket in waiting:
            self._remove(ticket)
            ticket.state = _DONE
        self._deadlines.clear()
        return waiting

    # -- looking -------------------------------------------------------------------------------

    def queued(self, klass: PriorityClass) -> int:
        """Requests in one queue."""
        return len(self._queues[klass])

    def oldest_wait(self, klass: PriorityClass, now: float) -> float:
        """Seconds that the head of the queue has waited; zero when nobody waits."""
        queue = self._queues[klass]
        return now - next(iter(queue)).arrived if queue else 0.0

    def next_event(self, now: float) -> float | None:
        """When to look again without any arrival or release: a deadline, or a pod's second chance."""
        if not self.waiting:
            return None
        times = [t for t in (self.pool.next_recovery(now),) if t is not None]
        if self._deadlines:
            times.append(self._deadlines[0][0])
        return min(times, default=None)

    def promise_return(
        self, klass: PriorityClass, now: float, identity: int = 0
    ) -> tuple[int, ReservedReturn | None]:
        """After how many seconds a refused client may return, and the place it finds then."""
        drain = self._drain
        rate = drain.per_second(klass, self.pool.available_seats, now)
        places = self._policies[klass].max_queue_length // 2
        return self._returns[klass].promise(now, rate, drain.held_seconds, places, identity)

    def retry_after(self, klass: PriorityClass, now: float) -> float:
        """Seconds until those that wait in this class and above should have started, 1 to 60."""
        seats = self.pool.available_seats
        seconds = 0.0
        for above in CLASSES[: klass + 1]:
            if waiting := len(self._queues[above]):
                rate = self._drain.per_second(above, seats, now)
                seconds += waiting / rate if rate > 0.0 else LONGEST_SECONDS
        return min(max(seconds, SHORTEST_SECONDS), LONGEST_SECONDS)

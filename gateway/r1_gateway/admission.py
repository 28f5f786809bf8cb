"""Who gets the next seat: bounded queues per class, strict order, ageing.

The state machine of a request is ``QUEUED -> RUNNING -> DONE``, with ``RUNNING -> QUEUED`` for a
request that is tried again on another pod, and ``QUEUED -> DONE`` for one that left or expired.

Order: the most urgent class that has a request goes first, first come first served inside it.  Two
rules keep the less urgent classes alive.  A head of queue older than its class's ``ageAfterSeconds``
passes in front (the least urgent first), and such overrides are at most one dispatch in ten, so
that they cost the urgent classes a bounded share.

A class that promises a time to first token has seats held back for it (``holdback``): a less urgent
request starts only while enough of them stay free.  An aged head that passes in front ignores that.

``Retry-After`` is the predicted time until the queue ahead has drained: its length over the rate at
which seats were freed lately.

Nothing here reads a clock or touches a socket.
"""

from __future__ import annotations

import enum
import heapq
import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from r1_gateway.classes import CLASSES, ClassPolicy, PriorityClass
from r1_gateway.holdback import Holdback
from r1_gateway.routing import Endpoint, EndpointPool

Item = TypeVar("Item")

DISPATCHES_PER_OVERRIDE = 10
DRAIN_RATE_SECONDS = 10.0
DRAIN_STEP_SECONDS = 0.1
RETRY_AFTER_LIMITS = (1.0, 60.0)


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


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request may not even wait, and when to come back (seconds, not yet jittered)."""

    reason: str
    message: str
    retry_after_seconds: float


class Admission(Generic[Item]):
    """Queues of one route in front of its pods.  Amortised O(log queue) per request."""

    def __init__(self, policies: Sequence[ClassPolicy], pool: EndpointPool) -> None:
        self._policies = tuple(policies)
        self._holdback = Holdback(self._policies)
        self.pool = pool
        self.in_flight = [0] * len(CLASSES)
        self._queues: tuple[OrderedDict[Ticket[Item], None], ...] = tuple(
            OrderedDict() for _ in CLASSES
        )
        self._waiting = 0
        self._deadlines: list[tuple[float, int, Ticket[Item]]] = []
        self._sequence = 0
        self._since_override = 0
        self._drain_rate = 0.0
        self._drained_at = 0.0
        self._freed = 0  # since then

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
        kept = self._holdback.reserve(klass, self.pool.seats, now)
        return kept, min(kept, self._holdback.advised(klass, now))

    # -- arriving ------------------------------------------------------------------------------

    def offer(
        self, item: Item, klass: PriorityClass, now: float, give_up_after: float | None = None
    ) -> Ticket[Item] | Refusal:
        """Take a request in: running at once when a seat is free and nobody waits, else queued.

        ``give_up_after`` is the client's own patience in seconds; the class's maximum also holds.
        """
        policy = self._policies[klass]
        patience = policy.max_queue_seconds
        if give_up_after is not None and give_up_after < patience:
            patience = give_up_after
        ticket = Ticket(item, klass, now, now + patience)
        if self._holdback.active:
            self._holdback.arrived(klass, now)
        if not self._waiting and not self._is_held_back(klass, now):
            endpoint = self.pool.choose(now)
            if endpoint is not None and patience > 0:
                self._start(ticket, endpoint, now)
                self._since_override = min(self._since_override + 1, DISPATCHES_PER_OVERRIDE - 1)
                return ticket
        queue = self._queues[klass]
        if len(queue) >= policy.max_queue_length:
            return Refusal(
                "QueueFull",
                f"the {klass.name} queue is full ({policy.max_queue_length} waiting)",
                self.retry_after(klass, now),
            )
        self._enqueue(ticket)
        return ticket

    def _enqueue(self, ticket: Ticket[Item], *, first: bool = False) -> None:
        queue = self._queues[ticket.klass]
        ticket.state = _QUEUED
        queue[ticket] = None
        if first:
            queue.move_to_end(ticket, last=False)
        self._waiting += 1
        self._sequence += 1
        if len(self._deadlines) > 2 * self._waiting + 64:  # mostly requests that left long ago
            self._deadlines = [d for d in self._deadlines if d[2].state is _QUEUED]
            heapq.heapify(self._deadlines)
        heapq.heappush(self._deadlines, (ticket.deadline, self._sequence, ticket))

    def _remove(self, ticket: Ticket[Item]) -> None:
        del self._queues[ticket.klass][ticket]
        self._waiting -= 1

    # -- dispatching ---------------------------------------------------------------------------

    def _start(self, ticket: Ticket[Item], endpoint: Endpoint, now: float) -> None:
        self.pool.acquire(endpoint)
        ticket.started = now
        ticket.state = _RUNNING
        ticket.endpoint = endpoint
        self.in_flight[ticket.klass] += 1

    def start_next(self, now: float) -> Ticket[Item] | None:
        """Give a free seat to the request whose turn it is; None when no one can start.

        Call :meth:`expire` first: a request past its deadline must never start.
        """
        if not self._waiting or self.pool.choose(now) is None:
            return None
        may_override = self._since_override >= DISPATCHES_PER_OVERRIDE - 1
        if may_override:
            for klass in reversed(CLASSES[1:]):
                if self._is_aged(klass, now) and (ticket := self._start_from(klass, now)):
                    self._since_override = 0
                    return ticket
        for klass in CLASSES:
            if not self._queues[klass]:
                continue
            if self._is_held_back(klass, now):
                return None  # and nobody less urgent may pass it
            if ticket := self._start_from(klass, now):
                if not may_override:
                    self._since_override += 1
                return ticket
        return None

    def _is_held_back(self, klass: PriorityClass, now: float) -> bool:
        """Whether the free seats are being kept for classes above this one."""
        if not self._holdback.holds_against(klass):
            return False
        kept = self._holdback.reserve(klass, self.pool.seats, now)
        return not self.pool.has_more_free_than(kept, now)

    def _is_aged(self, klass: PriorityClass, now: float) -> bool:
        queue = self._queues[klass]
        if not queue or not any(self._queues[: klass.value]):
            return False
        head = next(iter(queue))
        return now - head.arrived >= self.policies[klass].age_after_seconds

    def _start_from(self, klass: PriorityClass, now: float) -> Ticket[Item] | None:
        for ticket in self._queues[klass]:
            endpoint = self.pool.choose(now, ticket.avoid)
            if endpoint is not None:
                self._remove(ticket)
                self._start(ticket, endpoint, now)
                return ticket
            if not ticket.avoid:
                return None
        return None

    # -- leaving -------------------------------------------------------------------------------

    def finish(self, ticket: Ticket[Item], now: float) -> bool:
        """The request is over, or its client went away; frees its place exactly once.

        True when it had one: a second call changes nothing.
        """
        if ticket.state is _RUNNING:
            self._give_back(ticket)
            if self._holdback.active:
                self._holdback.released(now - ticket.started)
            self._freed += 1
            if now - self._drained_at >= DRAIN_STEP_SECONDS:
                self._note_drained(now)
        elif ticket.state is _QUEUED:
            self._remove(ticket)
        else:
            return False
        ticket.state = _DONE
        return True

    def _give_back(self, ticket: Ticket[Item]) -> None:
        assert ticket.endpoint is not None  # noqa: S101 - RUNNING implies a pod
        self.pool.release(ticket.endpoint)
        ticket.endpoint = None
        self.in_flight[ticket.klass] -= 1

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

    @property
    def waiting(self) -> int:
        """Requests in all queues."""
        return self._waiting

    def queued(self, klass: PriorityClass) -> int:
        """Requests in one queue."""
        return len(self._queues[klass])

    def oldest_wait(self, klass: PriorityClass, now: float) -> float:
        """Seconds that the head of the queue has waited; zero when nobody waits."""
        queue = self._queues[klass]
        return now - next(iter(queue)).arrived if queue else 0.0

    def next_event(self, now: float) -> float | None:
        """When to look again without any arrival or release: a deadline, or a pod's second chance."""
        if not self._waiting:
            return None
        times = [t for t in (self.pool.next_recovery(now),) if t is not None]
        if self._deadlines:
            times.append(self._deadlines[0][0])
        return min(times, default=None)

    def _note_drained(self, now: float) -> None:
        """Take the seats freed since the last time into the rate (a decaying mean)."""
        decay = math.exp(-max(now - self._drained_at, 0.0) / DRAIN_RATE_SECONDS)
        self._drain_rate = self._drain_rate * decay + self._freed / DRAIN_RATE_SECONDS
        self._drained_at = now
        self._freed = 0

    def retry_after(self, klass: PriorityClass, now: float) -> float:
        """Seconds until those ahead (this class and above) should have drained, within limits."""
        ahead = sum(len(self._queues[k]) for k in CLASSES[: klass + 1])
        self._note_drained(now)
        rate = self._drain_rate
        low, high = RETRY_AFTER_LIMITS
        return high if rate * high <= ahead else max(low, ahead / rate)

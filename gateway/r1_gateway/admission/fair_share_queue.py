"""Fair share over the tenants of a class, by token cost; earliest deadline first inside a tenant.

Start-time fair queuing (Goyal et al. 1996) with the corrections of Kubernetes' API Priority and
Fairness.  Each tenant has a *start tag*, in tokens divided by its weight.  The tenant with the
smallest tag is next.  A start adds the estimated cost to the tag, and the end of the request replaces
the estimate by the real cost.  *Virtual time* is the largest tag that was started.  A tenant without
queued requests enters at virtual time, so an idle tenant saves up no share.

The order of two tenants with queued requests does not depend on other tenants.

A full queue has no owner: an arrival displaces the newest request of the tenant with the most
queued requests by weight, if its own tenant has fewer.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Iterator
from itertools import islice
from typing import Generic, TypeVar

from r1_gateway.admission.ticket import Ticket
from r1_gateway.tenants.caller import Caller

Item = TypeVar("Item")

LOOKAHEAD = 17
"""Requests that `candidates` orders behind the first one."""
IDLE_FLOWS = 1024
"""Tenants without requests whose tags are remembered."""


class _Flow(Generic[Item]):
    """A tenant's requests in one class."""

    __slots__ = (
        "by_deadline", "credit", "entry", "in_flight", "last_deadline", "listed", "start", "tenant",
        "waiting", "weight",
    )  # fmt: skip

    def __init__(self, tenant: str, weight: float, start: float) -> None:
        self.tenant = tenant
        self.weight = weight
        self.start = start
        """Start tag of the next request."""
        self.credit = 0.0
        """Correction of the tag that the next start applies."""
        self.entry = 0
        """Number of the valid entry in the queue's heap."""
        self.listed: float | None = None
        """Tag of that entry, at most ``start``; None without an entry."""
        self.in_flight = 0
        self.waiting: OrderedDict[Ticket[Item], None] = OrderedDict()
        self.last_deadline = 0.0
        self.by_deadline: list[tuple[float, int, Ticket[Item]]] | None = None
        """None while the deadlines have the order of the arrivals."""

    def add(self, ticket: Ticket[Item], sequence: int) -> None:
        waiting, heap, deadline = self.waiting, self.by_deadline, ticket.deadline
        if heap is None:
            if deadline >= self.last_deadline or not waiting:
                self.last_deadline = deadline
                waiting[ticket] = None
                return
            first = sequence - len(waiting)
            heap = [(each.deadline, n, each) for n, each in enumerate(waiting, first)]
        waiting[ticket] = None
        if len(heap) > 2 * len(waiting) + 16:  # mostly of requests that left
            heap = [entry for entry in heap if entry[2] in waiting]
        if heap is not self.by_deadline:
            heapq.heapify(heap)
            self.by_deadline = heap
        heapq.heappush(heap, (deadline, sequence, ticket))

    def head(self) -> Ticket[Item]:
        """The request with the earliest deadline."""
        heap, waiting = self.by_deadline, self.waiting
        if heap is None:
            return next(iter(waiting))
        while heap[0][2] not in waiting:
            heapq.heappop(heap)
        return heap[0][2]

    def in_order(self) -> list[Ticket[Item]]:
        """The first requests by deadline."""
        heap = self.by_deadline
        if heap is None:
            return list(islice(self.waiting, LOOKAHEAD))
        valid = (entry for entry in heap if entry[2] in self.waiting)
        return [ticket for _, _, ticket in heapq.nsmallest(LOOKAHEAD, valid)]

    def correct(self) -> None:
        """Apply the credit of ended requests."""
        self.start -= self.credit
        self.credit = 0.0


class FairShareQueue(Generic[Item]):
    """Queued requests of one class, by tenant."""

    def __init__(self) -> None:
        self._tickets: OrderedDict[Ticket[Item], None] = OrderedDict()  # by arrival
        self._retried: OrderedDict[Ticket[Item], None] = OrderedDict()
        self._flows: dict[str, _Flow[Item]] = {}
        self._heap: list[tuple[float, int, _Flow[Item]]] = []  # flows with queued requests, by tag
        self._virtual_time = 0.0
        self._sequence = 0
        self._weight = 0.0  # of the flows with queued requests
        self._in_flight = 0
        self._longest: _Flow[Item] | None = None  # by length over weight, when it was last raised
        self._most = 0.0  # no flow has more requests by its weight

    def __len__(self) -> int:
        return len(self._tickets)

    def __iter__(self) -> Iterator[Ticket[Item]]:
        return iter(self._tickets)

    # -- arrivals and departures ---------------------------------------------------------------

    def _flow(self, caller: Caller) -> _Flow[Item]:
        flow = self._flows.get(caller.tenant)
        if flow is None:
            flow = _Flow(caller.tenant, caller.weight, self._virtual_time)
            self._flows[caller.tenant] = flow
        elif flow.weight != caller.weight:  # the keys changed
            if flow.waiting:
                self._weight += caller.weight - flow.weight
            flow.weight = caller.weight
        return flow

    def push(self, ticket: Ticket[Item]) -> None:
        """Add an arrival."""
        self._tickets[ticket] = None
        flow = self._flow(ticket.caller)
        self._sequence += 1
        waiting = flow.waiting
        if not waiting:
            self._weight += flow.weight
            flow.correct()
            flow.start = max(flow.start, self._virtual_time)
            self._list(flow)
        flow.add(ticket, self._sequence)
        length = len(waiting) / flow.weight
        if length > self._most:
            self._most, self._longest = length, flow

    def push_first(self, ticket: Ticket[Item]) -> None:
        """Add a request that is retried: it is next, whatever its tenant has used."""
        self._tickets[ticket] = None
        self._tickets.move_to_end(ticket, last=False)
        self._retried[ticket] = None
        self._retried.move_to_end(ticket, last=False)

    def remove(self, ticket: Ticket[Item]) -> None:
        """Remove a queued request."""
        del self._tickets[ticket]
        if ticket in self._retried:
            del self._retried[ticket]
            return
        flow = self._flows[ticket.caller.tenant]
        del flow.waiting[ticket]
        if not flow.waiting:
            flow.by_deadline = None
            self._weight = max(self._weight - flow.weight, 0.0)
            self._forget(flow)

    def _list(self, flow: _Flow[Item]) -> None:
        """Put a flow into the heap, unless it has an entry that comes early enough."""
        if flow.listed is None or flow.listed > flow.start:
            heap = self._heap
            if len(heap) > 2 * len(self._flows) + 64:  # mostly of flows that were dropped
                heap[:] = [entry for entry in heap if entry[1] == entry[2].entry]
                heapq.heapify(heap)
            self._sequence += 1
            flow.entry, flow.listed = self._sequence, flow.start
            heapq.heappush(heap, (flow.start, self._sequence, flow))

    def _forget(self, flow: _Flow[Item]) -> None:
        """Drop the tags that no longer matter."""
        if not self._in_flight and not self._tickets:  # idle: no tenant competes
            self._flows.clear()
            self._heap.clear()
            self._virtual_time = self._weight = self._most = 0.0
            self._longest = None
        elif not flow.waiting and not flow.in_flight and len(self._flows) > IDLE_FLOWS:
            now = self._virtual_time
            self._flows = {
                name: each
                for name, each in self._flows.items()
                if each.waiting or each.in_flight or each.start - each.credit > now
            }
            for entry in self._heap:
                if entry[2].tenant not in self._flows:
                    entry[2].entry = 0

    # -- order ---------------------------------------------------------------------------------

    def first(self) -> Ticket[Item] | None:
        """The next request in order."""
        if self._retried:
            return next(iter(self._retried))
        flow = self._first_flow()
        return None if flow is None else flow.head()

    def candidates(self) -> Iterator[Ticket[Item]]:
        """Retried requests, then the first ones by their tenants' tags."""
        yield from self._retried
        first = self._first_flow()
        if first is None:
            return
        head = first.head()
        yield head
        tags: list[tuple[float, int, int, Ticket[Item]]] = []
        flows = (flow for flow in self._flows.values() if flow.waiting)
        for flow in heapq.nsmallest(LOOKAHEAD, flows, key=lambda each: (each.start, each.entry)):
            tag = flow.start
            for place, ticket in enumerate(flow.in_order()):
                tags.append((tag, flow.entry, place, ticket))
                tag += ticket.cost / flow.weight
        tags.sort(key=lambda each: each[:3])
        yield from islice((t[3] for t in tags if t[3] is not head), LOOKAHEAD)

    def _first_flow(self) -> _Flow[Item] | None:
        heap = self._heap
        while heap:
            tag, number, flow = heap[0]
            if number != flow.entry:
                heapq.heappop(heap)
            elif not flow.waiting:
                heapq.heappop(heap)
                flow.listed = None
            elif tag < flow.start:  # requests of the flow have started since
                self._sequence += 1
                flow.entry, flow.listed = self._sequence, flow.start
                heapq.heapreplace(heap, (flow.start, self._sequence, flow))
            else:
                return flow
        return None

    # -- accounts ------------------------------------------------------------------------------

    def charge(self, ticket: Ticket[Item]) -> None:
        """Charge a request that starts; a retry was charged before."""
        if ticket.charged:
            return
        flow = self._flow(ticket.caller)
        start, now = flow.start, self._virtual_time
        if not flow.waiting:
            start -= flow.credit
            flow.credit = 0.0
        if start > now:
            self._virtual_time = start
        elif not flow.waiting:
            start = now
        cost = ticket.charged = ticket.cost
        start += cost / flow.weight
        if flow.credit:  # up to the tag that the started request had: the heap has it
            back = min(flow.credit, cost / flow.weight)
            start -= back
            flow.credit -= back
        flow.start = start
        flow.in_flight += 1
        self._in_flight += 1

    def settle(self, ticket: Ticket[Item], cost: float) -> None:
        """Correct the charge to the real cost: more at once, less at the tenant's next starts."""
        charged = ticket.charged
        if not charged:
            return
        flow = self._flow(ticket.caller)
        ticket.charged = 0.0
        flow.in_flight -= 1
        self._in_flight -= 1
        flow.credit += (charged - cost) / flow.weight
        if flow.credit < 0.0:
            flow.correct()
        if not flow.waiting:
            self._forget(flow)

    def displaced_by(self, caller: Caller) -> Ticket[Item] | None:
        """The newest request of the tenant with the most, if ``caller``'s tenant has fewer."""
        mine = self._flows.get(caller.tenant)
        length = ((len(mine.waiting) if mine is not None else 0) + 1) / caller.weight
        if length >= self._most:
            return None
        longest = self._longest
        if longest is None or length >= len(longest.waiting) / longest.weight:
            flows = [flow for flow in self._flows.values() if flow.waiting]  # it became shorter
            longest = max(flows, key=lambda flow: len(flow.waiting) / flow.weight, default=None)
            self._longest = longest
            self._most = 0.0 if longest is None else len(longest.waiting) / longest.weight
            if longest is None or length >= self._most:
                return None
        return next(reversed(longest.waiting))

    def ahead_of(self, caller: Caller) -> float:
        """Queued requests that start before one of ``caller``, by the weights of the tenants."""
        mine = self._flows.get(caller.tenant)
        waiting = len(mine.waiting) if mine is not None else 0
        others = self._weight - (mine.weight if waiting and mine is not None else 0.0)
        share = waiting + (waiting + 1) * others / caller.weight
        return min(float(len(self._tickets)), share + len(self._retried))

"""The queue inside a class, as a strategy: :class:`FifoQueue`, or fair share over tenants
(:mod:`~r1_gateway.admission.fair_share_queue`)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Generic, Protocol, TypeVar

from r1_gateway.admission.ticket import Ticket
from r1_gateway.tenants.caller import Caller

Item = TypeVar("Item")


class ClassQueue(Protocol[Item]):
    """Queued requests of one class on one route.  Operations take amortised O(log n) at most."""

    def __len__(self) -> int:
        """Queued requests."""

    def __iter__(self) -> Iterator[Ticket[Item]]:
        """All of them, the oldest first."""

    def push(self, ticket: Ticket[Item]) -> None:
        """Add an arrival."""

    def push_first(self, ticket: Ticket[Item]) -> None:
        """Add a request that is retried: it is next."""

    def remove(self, ticket: Ticket[Item]) -> None:
        """Remove a queued request: it starts, expired, or its client left."""

    def first(self) -> Ticket[Item] | None:
        """The next request in order."""

    def candidates(self) -> Iterable[Ticket[Item]]:
        """Requests in the order in which they should start; a caller may stop at any one."""

    def charge(self, ticket: Ticket[Item]) -> None:
        """Charge a request that starts to its tenant's share; a retry is charged once."""

    def settle(self, ticket: Ticket[Item], cost: float) -> None:
        """Correct the charge of a request that ended to its real ``cost`` in tokens."""

    def displaced_by(self, caller: Caller) -> Ticket[Item] | None:
        """The request that makes room in a full queue for one of ``caller``, or None."""

    def ahead_of(self, caller: Caller) -> float:
        """Queued requests that should start before one of ``caller`` that arrives now."""


class FifoQueue(OrderedDict[Ticket[Item], None], Generic[Item]):
    """First come, first served."""

    def push(self, ticket: Ticket[Item]) -> None:
        """Add an arrival."""
        self[ticket] = None

    def push_first(self, ticket: Ticket[Item]) -> None:
        """Add a request that is retried: it is next."""
        self[ticket] = None
        self.move_to_end(ticket, last=False)

    def remove(self, ticket: Ticket[Item]) -> None:
        """Remove a queued request."""
        del self[ticket]

    def first(self) -> Ticket[Item] | None:
        """The oldest request."""
        return next(iter(self), None)

    def candidates(self) -> Iterable[Ticket[Item]]:
        """Requests by arrival."""
        return self

    def charge(self, ticket: Ticket[Item]) -> None:
        """Nothing: arrivals alone decide."""

    def settle(self, ticket: Ticket[Item], cost: float) -> None:
        """Nothing: arrivals alone decide."""

    def displaced_by(self, caller: Caller) -> Ticket[Item] | None:
        """None: a request that is queued stays."""
        return None

    def ahead_of(self, caller: Caller) -> float:
        """All queued requests."""
        return float(len(self))

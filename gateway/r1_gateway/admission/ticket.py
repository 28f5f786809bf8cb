"""A request in admission, and a refusal to queue one.

The states of a request are ``QUEUED -> RUNNING -> DONE``.  A retry on another pod goes from
``RUNNING`` to ``QUEUED``; a request that is cancelled or expires goes from ``QUEUED`` to ``DONE``.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Generic, TypeVar

from r1_common.contracts.priority_classes import PriorityClass
from r1_gateway.admission.endpoint_pool import Endpoint
from r1_gateway.admission.reserved_returns import ReservedReturn
from r1_gateway.tenants.caller import ANONYMOUS, Caller

Item = TypeVar("Item")


class TicketState(enum.Enum):
    """State of a request in admission."""

    QUEUED = enum.auto()
    RUNNING = enum.auto()
    DONE = enum.auto()


_QUEUED = TicketState.QUEUED


@dataclass(slots=True, eq=False)
class Ticket(Generic[Item]):
    """A request in admission: class, arrival, queue deadline, caller, cost, pod and start."""

    item: Item
    klass: PriorityClass
    arrived: float
    deadline: float
    state: TicketState = _QUEUED
    endpoint: Endpoint | None = None
    avoid: frozenset[str] = frozenset()
    started: float = 0.0
    width: int = 1
    """Seats that the request needs on one pod."""
    taken: int = 0
    """Seats in use while the request runs."""
    caller: Caller = ANONYMOUS
    cost: float = 1.0
    """Estimated tokens, prompt and output."""
    size: int = 0
    """Bytes of the body."""
    charged: float = 0.0
    """Cost that was charged to the tenant's share at the start; 0 before it."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """A refusal to queue a request: reason, message, and seconds until the client may return."""

    reason: str
    message: str
    retry_after_seconds: int
    reserved_return: ReservedReturn | None = None

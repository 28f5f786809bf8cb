"""The caller of a request, decided once from its credential.

A caller has a *tenant* (the unit of fair share, limits and accounting) and a *key* of that tenant.
The gateway puts the caller on the request, its ticket, its access log line and its metrics.
"""

from __future__ import annotations

from dataclasses import dataclass

from r1_common.contracts.priority_classes import PriorityClass
from r1_gateway.tenants.limits import NO_LIMITS, TenantLimits


@dataclass(frozen=True, slots=True, eq=False)
class Caller:
    """Tenant, key and rights.  One object for each key, made when the keys are read."""

    tenant: str
    key_id: str = ""
    """Name of the key in logs: its ``name`` in the keys file, else the start of its digest."""
    default_class: PriorityClass | None = None
    """Class of a request that names none; None: the route's."""
    max_class: PriorityClass = PriorityClass.Q1
    """The most urgent class; a more urgent request is lowered to it."""
    weight: float = 1.0
    """Share of a class's tokens, relative to the other tenants that have queued requests."""
    limits: TenantLimits = NO_LIMITS
    models: frozenset[str] | None = None
    """Models that the caller may use, by the name in the request; None: all."""


ANONYMOUS = Caller("anonymous")
"""The caller of every request of a gateway without credentials."""

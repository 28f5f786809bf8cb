"""Use of the gateway by tenant since its start: requests, tokens, waits, cost.

At most ``NAMED`` tenants have their own numbers; all others are ``other``.  When more tenants exist,
the ones with the most tokens get the names; a tenant that loses its name to another one starts at 0
when it gets one again, which readers of counters treat as a restart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from r1_common.contracts.priority_classes import CLASSES

NAMED = 20
OTHER = "other"
RANKED = 10_000
"""Tenants whose tokens are counted to rank them."""
RANK_EVERY = 1000
"""Requests of unnamed tenants between two rankings."""
OVERTAKEN = 2.0
"""A tenant takes the name of another one when it has this many times its tokens."""


def _zeros() -> list[float]:
    return [0.0] * len(CLASSES)


@dataclass(slots=True)
class TenantUsage:
    """Counters of one tenant; lists are indexed by class."""

    requests: Counter[tuple[int, int]] = field(default_factory=Counter)
    """Responses by class and status code."""
    limited: Counter[str] = field(default_factory=Counter)
    """Requests that a limit of the tenant refused, by the field of the keys file."""
    input_tokens: list[float] = field(default_factory=_zeros)
    output_tokens: list[float] = field(default_factory=_zeros)
    queue_seconds: list[float] = field(default_factory=_zeros)
    first_token_seconds: list[float] = field(default_factory=_zeros)
    first_tokens: list[float] = field(default_factory=_zeros)
    """Responses with a first token; divides ``first_token_seconds``."""
    cost: float = 0.0


class UsageByTenant:
    """Counters of the named tenants, and of all others together."""

    def __init__(self, named: int = NAMED) -> None:
        self.tenants: dict[str, TenantUsage] = {}
        self._named = named
        self._tokens: Counter[str] = Counter()
        self._unranked = 0

    def declare(self, tenants: Iterable[str]) -> None:
        """Give names to known tenants while there are any, with zeros that a scrape can see."""
        for tenant in tenants:
            if len(self.tenants) - (OTHER in self.tenants) >= self._named:
                return
            self.tenants.setdefault(tenant, TenantUsage())

    def of(self, tenant: str) -> TenantUsage:
        """The counters of a tenant, its own or those of ``other``."""
        usage = self.tenants.get(tenant)
        if usage is not None:
            return usage
        own = len(self.tenants) - (OTHER in self.tenants) < self._named
        if not own:
            self._unranked += 1
            if self._unranked >= RANK_EVERY:
                self._unranked = 0
                self._rank()
                own = tenant in self.tenants
        return self.tenants.setdefault(tenant if own else OTHER, TenantUsage())

    def count(
        self,
        tenant: str,
        klass: int,
        status: int,
        input_tokens: int,
        output_tokens: int,
        queue_seconds: float,
        first_token_seconds: float | None,
        cost: float,
    ) -> None:
        """Count a request that ended."""
        usage = self.tenants.get(tenant)
        if usage is None:
            usage = self.of(tenant)
            self._count_unnamed(tenant, input_tokens + output_tokens)
        usage.requests[klass, status] += 1
        usage.input_tokens[klass] += input_tokens
        usage.output_tokens[klass] += output_tokens
        usage.queue_seconds[klass] += queue_seconds
        if first_token_seconds is not None:
            usage.first_token_seconds[klass] += first_token_seconds
            usage.first_tokens[klass] += 1
        if cost:
            usage.cost += cost

    def _count_unnamed(self, tenant: str, tokens: int) -> None:
        """Count tokens of a tenant without a name, for the ranking."""
        ranks = self._tokens
        ranks[tenant] += tokens
        if len(ranks) > RANKED:
            self._tokens = Counter(dict(ranks.most_common(RANKED // 2)))

    def _rank(self) -> None:
        """Give the names of the tenants with the fewest tokens to unnamed ones with far more."""
        ranks = self._tokens
        since = {
            name: sum(each.input_tokens) + sum(each.output_tokens)
            for name, each in self.tenants.items()
            if name != OTHER
        }
        named = sorted(since, key=lambda name: since[name])
        for least, (best, tokens) in zip(named, ranks.most_common(self._named), strict=False):
            if tokens <= OVERTAKEN * since[least]:
                break
            del self.tenants[least], ranks[best]
            ranks[least] = int(since[least])
            self.tenants[best] = TenantUsage()

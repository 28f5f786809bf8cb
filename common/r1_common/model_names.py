"""Which resource a model name belongs to: one rule, for the gateway's table and the operator's status.

A resource claims its own name, its aliases, and ``namespace/name``.  The last always reaches it.  A
resource's own name goes before others' aliases; among claims of one kind the oldest wins.  Age is the
creation of the ``route.json`` ConfigMap, in whole seconds that the API server sets; within one second
the order of the ConfigMaps' keys decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class NameClaim:
    """The model names that one resource claims; ``key`` is its ``namespace/name``."""

    key: str
    names: tuple[str, ...]

    @property
    def own_name(self) -> str:
        """The resource's own name."""
        return self.key.partition("/")[2]

    def wanted(self) -> tuple[str, ...]:
        """The own name, whether or not ``names`` has it, and the aliases; each once."""
        return tuple(dict.fromkeys((self.own_name, *self.names)))

    def all_names(self) -> tuple[str, ...]:
        """The same with ``namespace/name``, which every resource claims without a word."""
        return tuple(dict.fromkeys((self.key, *self.wanted())))


@dataclass(frozen=True, slots=True)
class ModelNames:
    """The owner's key of each name, and by resource the names that it claims and does not get."""

    owners: Mapping[str, str] = field(default_factory=dict)
    lost: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def age_of(created: str, configmap: str) -> tuple[str, str]:
    """Sorts claims, the oldest first: creationTimestamp (RFC 3339, UTC) and ``namespace/name``."""
    return created, configmap


def owner_of(name: str, claims: Sequence[NameClaim]) -> str:
    """The key that ``name`` belongs to; ``claims`` are those that hold it (at least one), oldest first."""
    return min(claims, key=lambda claim: _rank(name, claim)).key


def resolve(claims: Iterable[NameClaim]) -> ModelNames:
    """The owner of every name; ``claims`` has one for each resource, the oldest first."""
    claims = tuple(claims)
    holders: dict[str, list[NameClaim]] = {}
    for claim in claims:
        for name in claim.all_names():
            holders.setdefault(name, []).append(claim)
    owners = {name: owner_of(name, found) for name, found in holders.items()}
    lost = {
        claim.key: tuple(name for name in claim.wanted() if owners[name] != claim.key)
        for claim in claims
    }
    return ModelNames(owners, {key: names for key, names in lost.items() if names})


def _rank(name: str, claim: NameClaim) -> int:
    """``min`` takes the first of equal ranks, which is the oldest."""
    return 0 if name == claim.key else 1 if name == claim.own_name else 2

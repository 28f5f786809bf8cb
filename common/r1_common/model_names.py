"""Assignment of model names to resources, for the gateway's table and the operator's status.

A resource claims its own name, its aliases, and ``namespace/name``. The last one always reaches it. A
resource's own name has precedence over aliases of others; among claims of one kind, the oldest has
precedence. The age is the creationTimestamp of the ``route.json`` ConfigMap, which has whole seconds;
within one second, the order of the ConfigMaps' keys decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class NameClaim:
    """The model names of one resource; ``key`` is its ``namespace/name``."""

    key: str
    names: tuple[str, ...]

    @property
    def own_name(self) -> str:
        """The resource's own name."""
        return self.key.partition("/")[2]

    def claimed_names(self) -> tuple[str, ...]:
        """The own name, also where ``names`` lacks it, and the aliases; each once."""
        return tuple(dict.fromkeys((self.own_name, *self.names)))

    def all_names(self) -> tuple[str, ...]:
        """The claimed names and ``namespace/name``, which every resource claims implicitly."""
        return tuple(dict.fromkeys((self.key, *self.claimed_names())))


@dataclass(frozen=True, slots=True)
class ModelNames:
    """The owner's key of each name, and by resource the claimed names that another one owns."""

    owners: Mapping[str, str] = field(default_factory=dict)
    conflicts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def age_key(created: str, configmap: str) -> tuple[str, str]:
    """Sort key of claims, oldest first: creationTimestamp (RFC 3339, UTC), ``namespace/name``."""
    return created, configmap


def owner_of(name: str, claims: Sequence[NameClaim]) -> str:
    """The key of the owner of ``name``; ``claims`` are all claims of it (at least one), oldest first."""
    return min(claims, key=lambda claim: _rank(name, claim)).key


def resolve(claims: Iterable[NameClaim]) -> ModelNames:
    """The owner of every name; ``claims`` has one entry per resource, the oldest first."""
    claims = tuple(claims)
    by_name: dict[str, list[NameClaim]] = {}
    for claim in claims:
        for name in claim.all_names():
            by_name.setdefault(name, []).append(claim)
    owners = {name: owner_of(name, rivals) for name, rivals in by_name.items()}
    conflicts = {
        claim.key: tuple(name for name in claim.claimed_names() if owners[name] != claim.key)
        for claim in claims
    }
    return ModelNames(owners, {key: names for key, names in conflicts.items() if names})


def _rank(name: str, claim: NameClaim) -> int:
    """Rank of a claim; of equal ranks, ``min`` returns the first, which is the oldest."""
    return 0 if name == claim.key else 1 if name == claim.own_name else 2

"""Model names of all routes; ``route.json`` itself is ``r1_common.contracts.route``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from r1_common.contracts.route import RouteSpec
from r1_common.model_names import NameClaim, resolve


@dataclass(frozen=True, slots=True)
class ModelTable:
    """Route of each model name, and a message for each conflicting claim."""

    routes: Mapping[str, str] = field(default_factory=dict)
    conflicts: tuple[str, ...] = ()


def build_model_table(specs: Iterable[RouteSpec]) -> ModelTable:
    """Names of all routes, by the rule of ``r1_common.model_names``; ``specs`` oldest first."""
    names = resolve(NameClaim(spec.key, spec.models) for spec in specs)
    conflicts = tuple(
        f"model {name!r} of {key} belongs to {names.owners[name]}"
        for key, lost in names.conflicts.items()
        for name in lost
    )
    return ModelTable(names.owners, conflicts)

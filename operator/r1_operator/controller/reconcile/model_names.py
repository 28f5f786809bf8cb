"""Index of model names and the resources that claim them.

Each reconcile adds the stored `route.json` ConfigMap of its resource, which the gateways read. A new,
changed or removed claim can change the names of other resources, which are then enqueued.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from r1_common.model_names import NameClaim, age_key, owner_of
from r1_operator.api.names import ROUTE_KEY
from r1_operator.kube.kinds import Key
from r1_operator.kube.store import Store


@dataclass(slots=True)
class NameIndex:
    """Claims by resource, and resources by model name."""

    _claims: dict[Key, tuple[tuple[str, str], NameClaim]] = field(default_factory=dict)
    _holders: dict[str, set[Key]] = field(default_factory=dict)
    _is_filled: bool = False

    def fill(self, routes: Store) -> None:
        """Add every stored ConfigMap, once, so that the first status knows all claims."""
        if self._is_filled:
            return
        self._is_filled = True
        for stored in list(routes.objects.values()):
            self.update(stored.load())

    def update(self, configmap: Mapping[str, Any]) -> set[Key]:
        """Add a `route.json` ConfigMap; the other resources whose names may have changed."""
        claim = _read(configmap)
        if claim is None:
            return set()
        metadata = configmap["metadata"]
        namespace, name = metadata.get("namespace", ""), metadata["name"]
        age = age_key(metadata.get("creationTimestamp") or "", f"{namespace}/{name}")
        key = Key(*claim.key.split("/", 1))
        if self._claims.get(key) == (age, claim):
            return set()
        others = self.remove(key)
        self._claims[key] = (age, claim)
        for each in claim.all_names():
            others |= self._holders.setdefault(each, set())
            self._holders[each].add(key)
        return others - {key}

    def remove(self, key: Key) -> set[Key]:
        """Remove a resource; the other resources whose names may have changed."""
        entry = self._claims.pop(key, None)
        others: set[Key] = set()
        for each in entry[1].all_names() if entry is not None else ():
            holders = self._holders[each]
            holders.discard(key)
            others |= holders
            if not holders:
                del self._holders[each]
        return others

    def conflicts(self, key: Key) -> dict[str, str]:
        """The claimed names that other resources own, with the key of each owner."""
        entry = self._claims.get(key)
        names = entry[1].claimed_names() if entry is not None else ()
        owners = {name: self._owner(name) for name in names}
        return {name: owner for name, owner in owners.items() if owner != str(key)}

    def _owner(self, name: str) -> str:
        claims = sorted((self._claims[key] for key in self._holders[name]), key=lambda one: one[0])
        return owner_of(name, [claim for _, claim in claims])


def _read(configmap: Mapping[str, Any]) -> NameClaim | None:
    """The claim of a ConfigMap; None if the gateways cannot parse it either."""
    try:
        route = json.loads((configmap.get("data") or {}).get(ROUTE_KEY, ""))
        models = tuple(str(one) for one in route["models"])
        return NameClaim(f"{route['namespace']}/{route['name']}", models)
    except (ValueError, TypeError, KeyError):
        return None

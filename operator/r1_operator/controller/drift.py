"""Does a live object say what the plan says? Pure; the reason why a settled object costs no write.

The live object has more in it than was asked for: defaults of the API server, status, fields of
other owners (a sidecar, an annotation). So the wanted manifest is looked up *in* the live one, with
the API's own equalities: lists that the API merges by a key are compared by that key, quantities by
value, an empty or false field may be left out.

What the lookup cannot see is a field that an earlier manifest had and this one has not. For that
each child carries the hash of the manifest it was last applied with, in an annotation.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from r1_operator.api.quantity import NotAQuantity, parse_quantity
from r1_operator.kube.kinds import Json

APPLIED: Final = "deepseek.ai/applied"
"""Annotation of a child: the hash of the manifest that it was applied with."""

_LIST_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "env": ("name",),
    "ports": ("containerPort", "port", "protocol"),
    "volumes": ("name",),
    "volumeMounts": ("mountPath",),
    "volumeDevices": ("devicePath",),
    "imagePullSecrets": ("name",),
    "resourceClaims": ("name",),
    "hostAliases": ("ip",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "ownerReferences": ("uid",),
    "conditions": ("type",),
}
_QUANTITIES: Final = frozenset({"limits", "requests", "emptyDir", "resourceFieldRef"})


def manifest_hash(manifest: Json) -> str:
    """32 hex digits that stand for a manifest."""
    text = json.dumps(manifest, separators=(",", ":"), sort_keys=True).encode()
    return hashlib.blake2b(text, digest_size=16).hexdigest()


def with_hash(manifest: Json, digest: str) -> Json:
    """The manifest with its hash in the annotation; the original is not changed."""
    metadata = dict(manifest["metadata"])
    metadata["annotations"] = {**(metadata.get("annotations") or {}), APPLIED: digest}
    return {**manifest, "metadata": metadata}


def drift(wanted: Any, live: Any) -> list[str]:
    """Paths at which the live object does not say what is wanted; empty when it does."""
    return list(_differences(wanted, live, "", ""))


def _differences(wanted: Any, live: Any, path: str, parent: str) -> Iterator[str]:
    if wanted is None or (live is None and not wanted):
        return
    if isinstance(wanted, Mapping):
        if not isinstance(live, Mapping):
            yield path
            return
        for key, value in wanted.items():
            yield from _differences(value, live.get(key), f"{path}.{key}", _kept(parent, key))
    elif isinstance(wanted, list | tuple):
        yield from _list_differences(list(wanted), live, path)
    elif not _same(wanted, live, parent):
        yield path


def _kept(parent: str, key: str) -> str:
    return parent if parent in _QUANTITIES else key


def _list_differences(wanted: list[Any], live: Any, path: str) -> Iterator[str]:
    field = path.rpartition(".")[2].partition("[")[0]
    if not isinstance(live, list):
        yield path
    elif field in _LIST_KEYS and all(isinstance(item, Mapping) for item in [*wanted, *live]):
        for item in wanted:
            same = [other for other in live if _matches(item, other, _LIST_KEYS[field])]
            where = f"{path}[{_identity(item, _LIST_KEYS[field])}]"
            if not same:
                yield where
            else:
                yield from _differences(item, same[0], where, "")
    elif len(wanted) != len(live):
        yield path
    else:
        for index, (item, other) in enumerate(zip(wanted, live, strict=True)):
            yield from _differences(item, other, f"{path}[{index}]", "")


def _matches(item: Mapping[str, Any], other: Mapping[str, Any], keys: tuple[str, ...]) -> bool:
    return all(item[key] == other.get(key) for key in keys if key in item)


def _identity(item: Mapping[str, Any], keys: tuple[str, ...]) -> str:
    return ",".join(str(item[key]) for key in keys if key in item)


def _same(wanted: Any, live: Any, parent: str) -> bool:
    if wanted == live:
        return True
    if parent not in _QUANTITIES:
        return False
    try:
        return parse_quantity(wanted).value == parse_quantity(live).value
    except NotAQuantity:
        return False

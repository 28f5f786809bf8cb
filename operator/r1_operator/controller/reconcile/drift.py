"""Comparison of a live object with its manifest; without drift no write is needed. Pure.

The live object has more fields than the manifest: defaults of the API server, status, fields of other
owners (a sidecar, an annotation). The manifest is therefore looked up in the live object, with the
equality of the API: lists with a merge key are compared by that key, quantities by value, and an empty
or false field may be absent.

The lookup does not detect a field that an earlier manifest had and this one has not. An annotation on
each child therefore has the hash of the last applied manifest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

from r1_common.kube.quantity import NotAQuantity, parse_quantity
from r1_operator.kube.kinds import Json

APPLIED: Final = "deepseek.ai/applied"
"""Annotation of a child: the hash of the last applied manifest."""

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
    "claims": ("name",),
    "hostAliases": ("ip",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "ownerReferences": ("uid",),
    "conditions": ("type",),
}
_QUANTITIES: Final = frozenset({"limits", "requests", "emptyDir", "resourceFieldRef"})


def manifest_hash(manifest: Json) -> str:
    """The hash of a manifest (32 hex digits)."""
    text = json.dumps(manifest, separators=(",", ":"), sort_keys=True).encode()
    return hashlib.blake2b(text, digest_size=16).hexdigest()


def with_hash(manifest: Json, digest: str) -> Json:
    """A copy of the manifest with its hash in the annotation."""
    metadata = dict(manifest["metadata"])
    metadata["annotations"] = {**(metadata.get("annotations") or {}), APPLIED: digest}
    return {**manifest, "metadata": metadata}


def drift(wanted: Any, live: Any) -> list[str]:
    """Paths at which the live object differs from the manifest; empty without drift."""
    paths: list[str] = []
    _compare(wanted, live, "", False, paths)
    return paths


def _compare(wanted: Any, live: Any, path: str, quantities: bool, paths: list[str]) -> None:
    # A restart compares tens of thousands of objects: plain recursion, with the equality test first,
    # which ends most branches.
    if wanted is None or wanted == live or (live is None and not wanted):
        return
    if isinstance(wanted, dict):
        if not isinstance(live, dict):
            paths.append(path)
            return
        for key, value in wanted.items():
            other = live.get(key)
            if value != other:
                inner = quantities or key in _QUANTITIES
                _compare(value, other, f"{path}.{key}", inner, paths)
    elif isinstance(wanted, list | tuple):
        _compare_lists(list(wanted), live, path, paths)
    elif not (quantities and _same_quantity(wanted, live)):
        paths.append(path)


def _compare_lists(wanted: list[Any], live: Any, path: str, paths: list[str]) -> None:
    field = path.rpartition(".")[2].partition("[")[0]
    if not isinstance(live, list):
        paths.append(path)
    elif field in _LIST_KEYS and all(isinstance(item, dict) for item in [*wanted, *live]):
        keys = _LIST_KEYS[field]
        for item in wanted:
            same = next((other for other in live if _matches(item, other, keys)), None)
            where = f"{path}[{','.join(str(item[key]) for key in keys if key in item)}]"
            if same is None:
                paths.append(where)
            else:
                _compare(item, same, where, False, paths)
    elif len(wanted) != len(live):
        paths.append(path)
    else:
        for index, (item, other) in enumerate(zip(wanted, live, strict=True)):
            _compare(item, other, f"{path}[{index}]", False, paths)


def _matches(item: Json, other: Json, keys: tuple[str, ...]) -> bool:
    return all(item[key] == other.get(key) for key in keys if key in item)


def _same_quantity(wanted: Any, live: Any) -> bool:
    try:
        return parse_quantity(wanted).value == parse_quantity(live).value
    except NotAQuantity:
        return False

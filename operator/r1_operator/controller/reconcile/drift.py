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
from collections.abc import Mapping
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
    "claims": ("name",),
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
    paths: list[str] = []
    _compare(wanted, live, "", False, paths)
    return paths


def _compare(wanted: Any, live: Any, path: str, quantities: bool, paths: list[str]) -> None:
    # Ten thousand restarts' worth of objects come through here at once: plain recursion, and
    # equality first, which most branches end with.
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

"""Check of the fields of a PodSpec and their JSON types against the models of the Kubernetes client.

Enumerations, limits and required fields are left to the API server.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kubernetes.aio.client import models

_NUMBERS: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float)}
_QUANTITIES = frozenset({"limits", "requests", "overhead", "sizeLimit", "divisor"})


def wrong_fields(spec: Any, path: str) -> list[str]:
    """One line for each unknown field of a PodSpec and each field with a wrong JSON type."""
    return list(_wrong(spec, "V1PodSpec", path, "spec"))


def _wrong(value: Any, kind: str, path: str, key: str) -> Iterator[str]:
    if value is None or kind == "object":
        return
    if kind.startswith("List["):
        if not isinstance(value, list):
            yield f"{path}: must be a list"
            return
        for index, item in enumerate(value):
            name = item.get("name") if isinstance(item, dict) else None
            yield from _wrong(item, kind[5:-1], f"{path}[{name or index}]", key)
    elif kind.startswith("Dict["):
        if not isinstance(value, dict):
            yield f"{path}: must be an object"
            return
        for name, item in value.items():
            yield from _wrong(item, kind.partition(", ")[2][:-1], f"{path}.{name}", key)
    elif hasattr(models, kind):
        yield from _wrong_object(value, getattr(models, kind), path)
    elif kind in _NUMBERS:
        if not isinstance(value, _NUMBERS[kind]) or isinstance(value, bool):
            yield f"{path}: must be {'an integer' if kind == 'int' else 'a number'}"
    elif kind == "bool":
        if not isinstance(value, bool):
            yield f"{path}: must be true or false"
    elif not isinstance(value, str) and not (key in _QUANTITIES and _is_number(value)):
        yield f"{path}: must be a string"


def _wrong_object(value: Any, model: Any, path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{path}: must be an object"
        return
    kinds = {model.attribute_map[name]: kind for name, kind in model.openapi_types.items()}
    for key, inner in value.items():
        if key not in kinds:
            yield f"{path}.{key}: unknown field"
        else:
            yield from _wrong(inner, kinds[key], f"{path}.{key}", key)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

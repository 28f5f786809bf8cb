"""Strategic merge of a pod template over another, pure.

The rules are those of Kubernetes' strategic merge patch, reduced to what pods need:
maps merge by key and null removes a key; the lists below merge by the field that
identifies an item; every other list is replaced. Containers merge in depth. Items that
hold one of several alternatives (a volume's source, an env's value) are replaced whole,
because the union of two alternatives is invalid.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from r1_operator.api.names import Reason
from r1_operator.plan.problem import Problem, Unplannable

DEEP = {"containers": ("name",), "initContainers": ("name",)}
WHOLE = {
    "volumes": ("name",),
    "env": ("name",),
    "imagePullSecrets": ("name",),
    "volumeMounts": ("mountPath",),
    "volumeDevices": ("devicePath",),
    "ports": ("containerPort", "protocol"),
    "hostAliases": ("ip",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
}
APPENDED = ("tolerations",)
_KEY_DEFAULTS = {"protocol": "TCP"}


def merge_template(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` merged onto `base`; neither is changed.

    Raises Unplannable where `over` cannot be a pod template, with the path of the field.
    """
    return _merge_maps(base, over, "template")


def _merge_maps(base: Mapping[str, Any], over: Mapping[str, Any], path: str) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        if key.startswith("$"):
            raise _bad(f"{path}.{key}", "patch directives are not supported")
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merge_value(key, base.get(key), value, f"{path}.{key}")
    return merged


def _merge_value(key: str, base: Any, over: Any, path: str) -> Any:
    if key in DEEP or key in WHOLE or key in APPENDED:
        if not isinstance(over, Sequence) or isinstance(over, str):
            raise _bad(path, "must be a list")
        if not all(isinstance(item, Mapping) for item in over):
            raise _bad(path, "must be a list of objects")
        return _merge_lists(key, base or [], over, path)
    if isinstance(base, Mapping):
        if not isinstance(over, Mapping):
            raise _bad(path, "must be an object")
        return _merge_maps(base, over, path)
    if isinstance(over, Mapping):
        return _merge_maps({}, over, path)
    return over


def _merge_lists(
    key: str, base: Sequence[Mapping[str, Any]], over: Sequence[Mapping[str, Any]], path: str
) -> list[Any]:
    if key in APPENDED:
        return [*base, *(item for item in over if item not in base)]
    names = DEEP.get(key) or WHOLE[key]
    merged = {_identity(item, names, path): item for item in base}
    for item in over:
        who = _identity(item, names, path)
        if key in DEEP:
            item = _merge_maps(merged.get(who, {}), item, f"{path}[{who[0]}]")
        merged[who] = item
    return list(merged.values())


def _identity(item: Mapping[str, Any], names: tuple[str, ...], path: str) -> tuple[Any, ...]:
    found = tuple(item.get(name, _KEY_DEFAULTS.get(name)) for name in names)
    if None in found or not all(isinstance(part, str | int) for part in found):
        raise _bad(path, f"each item needs {' and '.join(names)}")
    return found


def _bad(path: str, message: str) -> Unplannable:
    return Unplannable(Problem(Reason.INVALID_SPEC, f"spec.{path}: {message}."))

"""Strategic merge of a pod template over another, pure.

The rules are those of Kubernetes' strategic merge patch, reduced to what pods need:
maps merge by key and null removes a key; the lists below merge by the field that
identifies an item; every other list is replaced. Containers merge in depth. Of a union (a
probe's or lifecycle handler, a volume's source, an env's value) only one member may be set:
a member that is set replaces the others (`unions.py`), and items that are unions are
replaced whole.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from r1_operator.api.names import ConditionReason
from r1_operator.plan.problem import Problem, Unplannable
from r1_operator.plan.workload.unions import without_replaced

DEEP = {"containers": ("name",), "initContainers": ("name",)}
WHOLE = {
    "volumes": ("name",),
    "env": ("name",),
    "imagePullSecrets": ("name",),
    "resourceClaims": ("name",),
    "claims": ("name",),
    "volumeMounts": ("mountPath",),
    "volumeDevices": ("devicePath",),
    "ports": ("containerPort", "protocol"),
    "hostAliases": ("ip",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
}
APPENDED = ("tolerations",)
PLAIN = ("labels", "annotations", "nodeSelector", "matchLabels", "limits", "requests")
"""Maps whose keys are the user's own: a label may be called `env` or `ports`."""
_KEY_DEFAULTS = {"protocol": "TCP"}


def merge_template(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `over` merged onto `base`; neither is changed.

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
    if key in PLAIN and isinstance(over, Mapping) and isinstance(base, Mapping | None):
        merged = {**(base or {}), **over}
        return {name: value for name, value in merged.items() if value is not None}
    if key in DEEP or key in WHOLE or key in APPENDED:
        if not isinstance(over, Sequence) or isinstance(over, str):
            raise _bad(path, "must be a list")
        if not all(isinstance(item, Mapping) for item in over):
            raise _bad(path, "must be a list of objects")
        return _merge_lists(key, base or [], over, path)
    if isinstance(base, Mapping):
        if not isinstance(over, Mapping):
            raise _bad(path, "must be an object")
        return _merge_maps(without_replaced(key, base, over), over, path)
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
        identity = _identity(item, names, path)
        under = merged.get(identity, {}) if key in DEEP else {}
        merged[identity] = _merge_maps(under, item, f"{path}[{identity[0]}]")
    return list(merged.values())


def _identity(item: Mapping[str, Any], names: tuple[str, ...], path: str) -> tuple[Any, ...]:
    found = tuple(item.get(name, _KEY_DEFAULTS.get(name)) for name in names)
    if None in found or not all(isinstance(part, str | int) for part in found):
        raise _bad(path, f"each item needs {' and '.join(names)}")
    return found


def _bad(path: str, message: str) -> Unplannable:
    return Unplannable(Problem(ConditionReason.INVALID_SPEC, f"spec.{path}: {message}."))

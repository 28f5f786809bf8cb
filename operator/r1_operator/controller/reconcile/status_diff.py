"""Comparison of the planned status with the stored one. Pure.

The plan keeps unchanged parts (transition times, messages with numbers), so that the comparison is
equality with two exceptions: conditions have no order, and conditions of other types belong to other
controllers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from r1_operator.api.names import ConditionType
from r1_operator.kube.kinds import Json

_OURS: Final = frozenset(condition.value for condition in ConditionType)
_SCALING: Final = frozenset(
    {
        ConditionType.SCALING_ACTIVE.value,
        ConditionType.SCALING_LIMITED.value,
        ConditionType.FORECAST_UNAVAILABLE.value,
        ConditionType.FORECAST_NOT_APPROVED.value,
    }
)


def status_differs(wanted: Mapping[str, Any], live: Mapping[str, Any]) -> bool:
    """Whether the status has to be written."""
    return _comparable(wanted) != _comparable(live)


def with_previous_scaling(wanted: Json, live: Mapping[str, Any]) -> Json:
    """The planned status with the scaling conditions of the stored status.

    In its first seconds a process has no load signals. Until then the conditions of the previous
    process stay, if there are any.
    """
    stored = {one["type"]: one for one in live.get("conditions") or () if one["type"] in _SCALING}
    active = stored.get(ConditionType.SCALING_ACTIVE.value, {"status": "Unknown"})
    if active["status"] == "Unknown":
        return wanted
    generation = wanted.get("observedGeneration")
    others = [one for one in wanted["conditions"] if one["type"] not in _SCALING]
    previous = [{**one, "observedGeneration": generation} for one in stored.values()]
    mode = live.get("mode", wanted.get("mode"))
    return {**wanted, "mode": mode, "conditions": [*others, *previous]}


def _comparable(status: Mapping[str, Any]) -> dict[str, Any]:
    status_copy = dict(status)
    conditions = status_copy.pop("conditions", None) or ()
    return {
        **status_copy,
        "conditions": {one["type"]: one for one in conditions if one["type"] in _OURS},
    }

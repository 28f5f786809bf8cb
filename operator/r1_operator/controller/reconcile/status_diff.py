"""When is a status worth a write? Pure.

The plan keeps what need not move (times of transitions, sentences with figures in them), so this is
equality, with two allowances: the list of conditions has no order, and conditions of types that are
not ours belong to somebody else.
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
    """The wanted status with what the live one says about scaling.

    Used in the first seconds of a process, which knows nothing about load yet: what the process
    before it knew is a better answer, as long as there is one.
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

"""When is a status worth a write? Pure.

Counts and conditions are. The figures in the sentences of the scaling conditions are not: demand
moves all the time, and a status that moves with it would be a heartbeat. Those sentences are written
when their condition changes; `r1 explain` has the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from r1_operator.api.names import Condition
from r1_operator.kube.kinds import Json

_SCALING: Final = frozenset(
    {
        Condition.SCALING_ACTIVE.value,
        Condition.SCALING_LIMITED.value,
        Condition.FORECAST_UNAVAILABLE.value,
    }
)


def status_differs(wanted: Mapping[str, Any], live: Mapping[str, Any]) -> bool:
    """Whether the status has to be written."""
    return _comparable(wanted) != _comparable(live)


def carried_over(wanted: Json, live: Mapping[str, Any]) -> Json:
    """The wanted status with what the live one says about scaling.

    Used in the first seconds of a process, which knows nothing about load yet: what the process
    before it knew is a better answer, as long as there is one.
    """
    known = {one["type"]: one for one in live.get("conditions") or () if one["type"] in _SCALING}
    if Condition.SCALING_ACTIVE.value not in known:
        return wanted
    generation = wanted.get("observedGeneration")
    others = [one for one in wanted["conditions"] if one["type"] not in _SCALING]
    kept = [{**one, "observedGeneration": generation} for one in known.values()]
    mode = live.get("mode", wanted.get("mode"))
    return {**wanted, "mode": mode, "conditions": [*others, *kept]}


def _comparable(status: Mapping[str, Any]) -> dict[str, Any]:
    plain = {key: value for key, value in status.items() if value is not None}
    conditions = {}
    for one in plain.pop("conditions", None) or ():
        fields = dict(one)
        fields.pop("lastTransitionTime", None)
        if one["type"] in _SCALING:
            fields.pop("message", None)
        conditions[one["type"]] = fields
    return {**plain, "conditions": conditions}

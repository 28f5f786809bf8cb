"""Schema of the `status` of an R1Backtest, which only the operator writes.

The API has no floats: costs and shares are thousandths. If no target utilization meets the SLO, the
cost is absent, never 0.
"""

from typing import Any, Final

from r1_operator.api.names import BacktestPhase
from r1_operator.api.status import GENERATION, TIME, conditions, count, message, reason


def _percent(text: str) -> dict[str, Any]:
    return {
        "description": text,
        "type": "integer",
        "format": "int32",
        "minimum": 1,
        "maximum": 1000,
    }


def _word(text: str) -> dict[str, Any]:
    return {"description": text, "type": "string", "maxLength": 64}


_VERDICT: Final[dict[str, Any]] = {
    "description": "verdict is the result of the comparison at equal service.",
    "type": "object",
    "required": ["finding", "message", "activation"],
    "properties": {
        "finding": reason(
            "finding is one of Cheaper, Equal, MoreExpensive, OnlyCandidateMeetsSLO, "
            "OnlyBaselineMeetsSLO and NeitherMeetsSLO."
        ),
        "message": message("message is the finding, as a sentence for people."),
        "targetUtilizationPercent": _percent(
            "targetUtilizationPercent is the recommended value. It is absent if no value meets "
            "the SLO."
        ),
        "activation": _word("activation is the recommended value of forecast.activation."),
    },
}

_POLICIES: Final[dict[str, Any]] = {
    "description": "policies are the results, one row for each simulated policy.",
    "type": "array",
    "maxItems": 32,
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["name"],
    "items": {
        "type": "object",
        "required": ["name", "overloadPerMille"],
        "properties": {
            "name": _word("name is the name of the policy."),
            "costPerMille": count(
                "costPerMille is the replica-time in thousandths of the least that could have "
                "served the load, at the cheapest target utilization that meets the SLO. It is "
                "absent if none does."
            ),
            "overloadPerMille": count(
                "overloadPerMille is the share of requests during overload at that target "
                "utilization, in thousandths. If none meets the SLO, it is the lowest share of "
                "any."
            ),
            "targetUtilizationPercent": _percent(
                "targetUtilizationPercent is that target utilization. It is absent if none "
                "meets the SLO."
            ),
        },
    },
}

BACKTEST_STATUS: Final[dict[str, Any]] = {
    "description": "status is the progress and the result of the backtest.",
    "type": "object",
    "properties": {
        "conditions": conditions(
            "conditions are the conditions of the backtest. Complete is always present. Failed, "
            "Blocked and Stale are present only while True."
        ),
        "observedGeneration": {
            "description": "observedGeneration is the generation of the spec that the status refers to.",
            **GENERATION,
        },
        "phase": {
            "description": "phase is Pending, Running, Succeeded or Failed. The last two are final.",
            "type": "string",
            "maxLength": max(len(phase) for phase in BacktestPhase),
            "enum": [phase.value for phase in BacktestPhase],
        },
        "startedAt": {"description": "startedAt is the time of the creation of the Job.", **TIME},
        "finishedAt": {"description": "finishedAt is the end of the backtest.", **TIME},
        "autoscalingHash": _word("autoscalingHash is the hash of the tested spec.autoscaling."),
        "startSeconds": count(
            "startSeconds is the assumed start-up time of a replica, in seconds."
        ),
        "verdict": _VERDICT,
        "policies": _POLICIES,
    },
}

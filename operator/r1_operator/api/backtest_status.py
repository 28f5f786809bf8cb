"""The schema of an R1Backtest's `status`, which only the operator writes.

No floats in an API: costs and shares are thousandths. A service objective that no target keeps is
an absent cost, never 0.
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
    "description": "verdict is what the comparison at equal service came to.",
    "type": "object",
    "required": ["finding", "message", "activation"],
    "properties": {
        "finding": reason(
            "finding is one of Cheaper, Equal, MoreExpensive, OnlyCandidateMeetsSLO, "
            "OnlyBaselineMeetsSLO and NeitherMeetsSLO."
        ),
        "message": message("message is the finding as a sentence."),
        "targetUtilizationPercent": _percent(
            "targetUtilizationPercent is what to set; absent where no target keeps the objective."
        ),
        "activation": _word("activation is what to set as forecast.activation."),
    },
}

_POLICIES: Final[dict[str, Any]] = {
    "description": "policies is the board, one row for each policy that was played.",
    "type": "array",
    "maxItems": 32,
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["name"],
    "items": {
        "type": "object",
        "required": ["name", "overloadPerMille"],
        "properties": {
            "name": _word("name is the policy's."),
            "costPerMille": count(
                "costPerMille is replica-time over the least that could have served, in "
                "thousandths, at the cheapest target that keeps the objective; absent where none "
                "does."
            ),
            "overloadPerMille": count(
                "overloadPerMille is the share of requests that met an overload then, in "
                "thousandths; where no target keeps the objective, the lowest share of any."
            ),
            "targetUtilizationPercent": _percent(
                "targetUtilizationPercent is that target; absent where there is none."
            ),
        },
    },
}

BACKTEST_STATUS: Final[dict[str, Any]] = {
    "description": "status is how far it is and what it found.",
    "type": "object",
    "properties": {
        "conditions": conditions(
            "conditions say how it ended. Complete is always there; Failed, Blocked and Stale only "
            "while True."
        ),
        "observedGeneration": {
            "description": "observedGeneration is the spec's generation that status speaks of.",
            **GENERATION,
        },
        "phase": {
            "description": "phase is Pending, Running, Succeeded or Failed; the last two stay.",
            "type": "string",
            "maxLength": max(len(phase) for phase in BacktestPhase),
            "enum": [phase.value for phase in BacktestPhase],
        },
        "startedAt": {"description": "startedAt is when its Job was made.", **TIME},
        "finishedAt": {"description": "finishedAt is when it ended.", **TIME},
        "autoscalingHash": _word("autoscalingHash stands for the spec.autoscaling that was tried."),
        "startSeconds": count("startSeconds is what a replica was taken to need to serve."),
        "verdict": _VERDICT,
        "policies": _POLICIES,
    },
}

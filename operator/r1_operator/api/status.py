"""Schema of the `status` of an R1Inference, which only the operator writes.

Conditions come first. The status has counts and no load, so that it changes rarely.
"""

from typing import Any, Final

from r1_operator.api.names import ScalingMode

_COUNT: Final = {"type": "integer", "format": "int32", "minimum": 0, "maximum": 2**31 - 1}
TIME: Final = {"type": "string", "format": "date-time", "maxLength": 64}
_NAME: Final = r"^[A-Za-z]([A-Za-z0-9]*[A-Za-z0-9])?$"


def count(text: str) -> dict[str, Any]:
    """Schema of a non-negative integer."""
    return {"description": text, **_COUNT}


def reason(text: str) -> dict[str, Any]:
    """Schema of a reason: one stable CamelCase word."""
    return {"description": text, "type": "string", "maxLength": 1024, "pattern": _NAME}


def message(text: str) -> dict[str, Any]:
    """Schema of a message: a sentence for people."""
    return {"description": text, "type": "string", "maxLength": 32_768}


GENERATION: Final = {"type": "integer", "format": "int64", "minimum": 0, "maximum": 2**53 - 1}


def conditions(text: str) -> dict[str, Any]:
    """Schema of a list of conditions, described by `text`."""
    return {"description": text, **_CONDITIONS}


_CONDITIONS: Final[dict[str, Any]] = {
    "type": "array",
    "maxItems": 16,
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["type"],
    "items": {
        "type": "object",
        "required": ["type", "status", "lastTransitionTime", "reason", "message"],
        "properties": {
            "type": {
                "description": "type is the type of the condition.",
                "type": "string",
                "maxLength": 316,
            },
            "status": {
                "description": "status is True, False or Unknown.",
                "type": "string",
                "maxLength": 7,
                "enum": ["True", "False", "Unknown"],
            },
            "observedGeneration": {
                "description": "observedGeneration is the generation of the spec that the condition refers to.",
                **GENERATION,
            },
            "lastTransitionTime": {
                "description": "lastTransitionTime is the time of the last change of status.",
                **TIME,
            },
            "reason": reason("reason is a stable CamelCase word for programs."),
            "message": message("message is the cause and the action, as a sentence for people."),
        },
    },
}

STATUS: Final[dict[str, Any]] = {
    "description": "status is the observed state of the resource.",
    "type": "object",
    "properties": {
        "conditions": conditions(
            "conditions are the conditions of the resource. Ready, Available, Progressing and "
            "ScalingActive are always present. Degraded, ModelNameConflict, ScalingLimited, "
            "ForecastUnavailable and ForecastNotApproved are present only while True."
        ),
        "observedGeneration": {
            "description": "observedGeneration is the generation of the spec that the status refers to.",
            **GENERATION,
        },
        "replicas": count("replicas is the number of pods."),
        "desiredReplicas": count("desiredReplicas is the desired number of replicas."),
        "readyReplicas": count("readyReplicas is the number of ready replicas."),
        "availableReplicas": count("availableReplicas is the number of replicas that can serve."),
        "updatedReplicas": count(
            "updatedReplicas is the number of replicas with the newest pod template."
        ),
        "selector": {
            "description": "selector is the label selector of the pods, for the scale subresource.",
            "type": "string",
            "maxLength": 1024,
        },
        "mode": {
            "description": "mode is the source of the count: Manual (spec.replicas), Reactive (load) or "
            "Predictive (load and forecast).",
            "type": "string",
            "maxLength": max(len(mode) for mode in ScalingMode),
            "enum": [mode.value for mode in ScalingMode],
        },
        "lastScale": {
            "description": "lastScale is the last change of desiredReplicas.",
            "type": "object",
            "required": ["at", "from", "to", "reason", "message"],
            "properties": {
                "at": {"description": "at is the time of the decision.", **TIME},
                "from": count("from is the count before the change."),
                "to": count("to is the count after the change."),
                "reason": reason("reason is the rule that set the count."),
                "message": message("message is the cause, as a sentence for people."),
                "seatsReserved": count(
                    "seatsReserved is the number of seats that the gateways reserve for urgent "
                    "classes. It is absent if the load was not known."
                ),
            },
        },
    },
}

"""The schema of `status`, which only the operator writes.

Conditions come first. Nothing here changes fast: counts, not load.
"""

from typing import Any, Final

from r1_operator.api.names import ScalingMode

_COUNT: Final = {"type": "integer", "format": "int32", "minimum": 0, "maximum": 2**31 - 1}
TIME: Final = {"type": "string", "format": "date-time", "maxLength": 64}
_NAME: Final = r"^[A-Za-z]([A-Za-z0-9]*[A-Za-z0-9])?$"


def count(text: str) -> dict[str, Any]:
    """The schema of a whole number from 0 on."""
    return {"description": text, **_COUNT}


def reason(text: str) -> dict[str, Any]:
    """The schema of one stable CamelCase word."""
    return {"description": text, "type": "string", "maxLength": 1024, "pattern": _NAME}


def message(text: str) -> dict[str, Any]:
    """The schema of a sentence for people."""
    return {"description": text, "type": "string", "maxLength": 32_768}


GENERATION: Final = {"type": "integer", "format": "int64", "minimum": 0, "maximum": 2**53 - 1}


def conditions(text: str) -> dict[str, Any]:
    """The schema of a list of conditions, described by `text`."""
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
                "description": "type is what the condition is about.",
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
                "description": "observedGeneration is the spec's generation that this speaks of.",
                **GENERATION,
            },
            "lastTransitionTime": {
                "description": "lastTransitionTime is when status last changed.",
                **TIME,
            },
            "reason": reason("reason is one stable CamelCase word."),
            "message": message("message is a sentence for people, with what to do."),
        },
    },
}

STATUS: Final[dict[str, Any]] = {
    "description": "status is what the operator sees.",
    "type": "object",
    "properties": {
        "conditions": conditions(
            "conditions say how the resource is. Ready, Available, Progressing and ScalingActive "
            "are always there; Degraded, ModelNameConflict, ScalingLimited, ForecastUnavailable "
            "and ForecastNotApproved only while True."
        ),
        "observedGeneration": {
            "description": "observedGeneration is the spec's generation that status speaks of.",
            **GENERATION,
        },
        "replicas": count("replicas is how many pods exist."),
        "desiredReplicas": count("desiredReplicas is how many there should be."),
        "readyReplicas": count("readyReplicas is how many are ready."),
        "availableReplicas": count("availableReplicas is how many serve."),
        "updatedReplicas": count("updatedReplicas is how many have the newest template."),
        "selector": {
            "description": "selector finds the pods; the scale subresource shows it.",
            "type": "string",
            "maxLength": 1024,
        },
        "mode": {
            "description": "mode says who sets the count.",
            "type": "string",
            "maxLength": max(len(mode) for mode in ScalingMode),
            "enum": [mode.value for mode in ScalingMode],
        },
        "lastScale": {
            "description": "lastScale is the last change of desiredReplicas.",
            "type": "object",
            "required": ["at", "from", "to", "reason", "message"],
            "properties": {
                "at": {"description": "at is when it was decided.", **TIME},
                "from": count("from is the count before."),
                "to": count("to is the count after."),
                "reason": reason("reason is the rule that decided."),
                "message": message("message is why, for people."),
                "seatsReserved": count(
                    "seatsReserved is how many seats the gateways were told to reserve for "
                    "urgent classes; absent where their load was not known."
                ),
            },
        },
    },
}

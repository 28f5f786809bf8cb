"""The schema of `status`, which only the operator writes.

Conditions come first. Nothing here changes fast: counts, not load.
"""

from typing import Any, Final

from r1_operator.api.names import Mode

_COUNT: Final = {"type": "integer", "format": "int32", "minimum": 0, "maximum": 2**31 - 1}
_TIME: Final = {"type": "string", "format": "date-time", "maxLength": 64}
_NAME: Final = r"^[A-Za-z]([A-Za-z0-9]*[A-Za-z0-9])?$"


def _count(text: str) -> dict[str, Any]:
    return {"description": text, **_COUNT}


def _reason(text: str) -> dict[str, Any]:
    return {"description": text, "type": "string", "maxLength": 1024, "pattern": _NAME}


def _message(text: str) -> dict[str, Any]:
    return {"description": text, "type": "string", "maxLength": 32_768}


_GENERATION: Final = {"type": "integer", "format": "int64", "minimum": 0, "maximum": 2**53 - 1}

_CONDITIONS: Final[dict[str, Any]] = {
    "description": "conditions say how the resource is. Ready, Available, Progressing and "
    "ScalingActive are always there; Degraded, ScalingLimited and ForecastUnavailable only "
    "while True.",
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
                **_GENERATION,
            },
            "lastTransitionTime": {
                "description": "lastTransitionTime is when status last changed.",
                **_TIME,
            },
            "reason": _reason("reason is one stable CamelCase word."),
            "message": _message("message is a sentence for people, with what to do."),
        },
    },
}

STATUS: Final[dict[str, Any]] = {
    "description": "status is what the operator sees.",
    "type": "object",
    "properties": {
        "conditions": _CONDITIONS,
        "observedGeneration": {
            "description": "observedGeneration is the spec's generation that status speaks of.",
            **_GENERATION,
        },
        "replicas": _count("replicas is how many pods exist."),
        "desiredReplicas": _count("desiredReplicas is how many there should be."),
        "readyReplicas": _count("readyReplicas is how many are ready."),
        "availableReplicas": _count("availableReplicas is how many serve."),
        "updatedReplicas": _count("updatedReplicas is how many have the newest template."),
        "selector": {
            "description": "selector finds the pods; the scale subresource shows it.",
            "type": "string",
            "maxLength": 1024,
        },
        "mode": {
            "description": "mode says who sets the count.",
            "type": "string",
            "maxLength": max(len(mode) for mode in Mode),
            "enum": [mode.value for mode in Mode],
        },
        "lastScale": {
            "description": "lastScale is the last change of desiredReplicas.",
            "type": "object",
            "required": ["at", "from", "to", "reason", "message"],
            "properties": {
                "at": {"description": "at is when it was decided.", **_TIME},
                "from": _count("from is the count before."),
                "to": _count("to is the count after."),
                "reason": _reason("reason is the rule that decided."),
                "message": _message("message is why, for people."),
            },
        },
    },
}

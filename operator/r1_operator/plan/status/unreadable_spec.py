"""Status of a resource with an invalid spec: an object from before a stricter CRD.

Its children stay, and its pods may change meanwhile. So counts and conditions are still written; fields
that need the spec stay as stored.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from r1_operator.api.names import ConditionReason, ConditionType
from r1_operator.plan.snapshot import Pod
from r1_operator.plan.status.conditions import ConditionUpdate, Truth, with_times


def plan_unreadable_status(
    before: Mapping[str, Any], generation: int, pods: Sequence[Pod], message: str, now: float
) -> dict[str, Any]:
    """Return the whole `status`; `before`: the stored one, `message`: the invalid fields."""
    living = [pod for pod in pods if not pod.ended]
    serving = sum(pod.serves for pod in living)
    invalid = str(ConditionReason.INVALID_SPEC)
    text = f"The spec is invalid, and the children stay unchanged until it is corrected: {message}."
    available: tuple[Truth, str, str] = (
        "False",
        ConditionReason.NO_REPLICAS_READY,
        "No replica is ready.",
    )
    if serving:
        available = ("True", ConditionReason.SERVING, "At least one replica is ready.")
    updates = [
        ConditionUpdate(ConditionType.READY, "False", invalid, text),
        ConditionUpdate(ConditionType.AVAILABLE, *available),
        ConditionUpdate(ConditionType.PROGRESSING, "False", invalid, text),
        ConditionUpdate(ConditionType.SCALING_ACTIVE, "False", invalid, text),
        ConditionUpdate(ConditionType.DEGRADED, "True", invalid, text),
    ]
    return {
        **before,
        "conditions": with_times(updates, before.get("conditions") or (), generation, now),
        "observedGeneration": generation,
        "replicas": len(living),
        "readyReplicas": sum(pod.ready for pod in living),
        "availableReplicas": serving,
    }

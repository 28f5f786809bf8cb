"""The status of a resource whose spec cannot be read: an object from before a stricter CRD.

Its children stay as they are, and its pods may come and go meanwhile. So the counts and the
conditions are written all the same; what only a spec can say stays as it is stored.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from r1_operator.api.names import ConditionReason, ConditionType
from r1_operator.plan.snapshot import Pod
from r1_operator.plan.status.conditions import ConditionUpdate, Truth, with_times


def plan_unreadable_status(
    before: Mapping[str, Any], generation: int, pods: Sequence[Pod], message: str, now: float
) -> dict[str, Any]:
    """The whole `status`; `before` is the stored one, `message` names each wrong field."""
    living = [pod for pod in pods if not pod.ended]
    serving = sum(pod.serves for pod in living)
    invalid = str(ConditionReason.INVALID_SPEC)
    text = f"The spec cannot be read, and nothing is changed until it can: {message}."
    available: tuple[Truth, str, str] = (
        "False",
        ConditionReason.NO_REPLICAS_READY,
        "No replica can serve.",
    )
    if serving:
        available = ("True", ConditionReason.SERVING, "At least one replica can serve.")
    verdicts = [
        ConditionUpdate(ConditionType.READY, "False", invalid, text),
        ConditionUpdate(ConditionType.AVAILABLE, *available),
        ConditionUpdate(ConditionType.PROGRESSING, "False", invalid, text),
        ConditionUpdate(ConditionType.SCALING_ACTIVE, "False", invalid, text),
        ConditionUpdate(ConditionType.DEGRADED, "True", invalid, text),
    ]
    return {
        **before,
        "conditions": with_times(verdicts, before.get("conditions") or (), generation, now),
        "observedGeneration": generation,
        "replicas": len(living),
        "readyReplicas": sum(pod.ready for pod in living),
        "availableReplicas": serving,
    }

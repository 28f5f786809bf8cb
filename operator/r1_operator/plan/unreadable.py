"""The status of a resource whose spec cannot be read: an object from before a stricter CRD.

Its children stay as they are, and its pods may come and go meanwhile. So the counts and the
conditions are written all the same; what only a spec can say stays as it is stored.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from r1_operator.api.names import Condition, Reason
from r1_operator.plan.conditions import Truth, Verdict, with_times
from r1_operator.plan.snapshot import Pod


def plan_unreadable_status(
    before: Mapping[str, Any], generation: int, pods: Sequence[Pod], message: str, now: float
) -> dict[str, Any]:
    """The whole `status`; `before` is the stored one, `message` names each wrong field."""
    living = [pod for pod in pods if not pod.ended]
    serving = sum(pod.serves for pod in living)
    invalid = str(Reason.INVALID_SPEC)
    text = f"The spec cannot be read, and nothing is changed until it can: {message}."
    available: tuple[Truth, str, str] = ("False", Reason.NO_REPLICA_SERVES, "No replica can serve.")
    if serving:
        available = ("True", Reason.SERVING, "At least one replica can serve.")
    verdicts = [
        Verdict(Condition.READY, "False", invalid, text),
        Verdict(Condition.AVAILABLE, *available),
        Verdict(Condition.PROGRESSING, "False", invalid, text),
        Verdict(Condition.SCALING_ACTIVE, "False", invalid, text),
        Verdict(Condition.DEGRADED, "True", invalid, text),
    ]
    return {
        **before,
        "conditions": with_times(verdicts, before.get("conditions") or (), generation, now),
        "observedGeneration": generation,
        "replicas": len(living),
        "readyReplicas": sum(pod.ready for pod in living),
        "availableReplicas": serving,
    }

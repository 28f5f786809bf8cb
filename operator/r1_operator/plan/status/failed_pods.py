"""Pods of phase Failed: rejected by the kubelet, evicted, or shut down with their node.

A ReplicaSet replaces a failed pod and does not delete it. So it is reported only while replicas are
missing and no pod has become ready since. One failed pod that is replaced already is normal; several
within the last hour are not.
"""

from collections import Counter
from typing import Final

from r1_operator.api.names import ConditionReason, Label
from r1_operator.plan.problem import Problem, quote_start
from r1_operator.plan.snapshot import ABSENT, Observed, Pod

RECENT_SECONDS: Final = 3600.0
"""Longer than the ReplicaSet controller's longest pause between two tries (about 1,000 s)."""
_SEVERAL: Final = 2
_NAMED_NODES: Final = 3

_REMEDIES: Final[tuple[tuple[str, str], ...]] = (
    ("UnexpectedAdmissionError", "Check the device plugin on these nodes."),
    ("Evicted", "Raise the requests of the scarce resource, or free it on these nodes."),
    (
        "OutOf",
        "The nodes had less free capacity than the scheduler assumed: check the other pods on them.",
    ),
    ("NodeAffinity", "The labels of these nodes no longer match nodeSelector or affinity."),
    ("NodeName", "spec.template.spec.nodeName names another node: remove it."),
    ("Topology", "The devices cannot be aligned with CPU and memory: check the Topology Manager."),
    ("Preempt", "Pods of a higher priority preempted it: add nodes, or set a priorityClassName."),
    ("NodeShutdown", "The nodes were shut down."),
    ("Terminated", "The nodes were shut down."),
    ("NodeLost", "The nodes are lost: check them."),
)


def failed_pods(observed: Observed, now: float) -> Problem | None:
    """Return the kubelets' reasons for pods that failed since the last one became ready."""
    failed = _relevant(observed, now)
    if not failed:
        return None
    reasons = Counter(pod.failure_reason or "Failed" for pod in failed)
    most = reasons.most_common(1)[0][0]
    newest = max(
        (pod for pod in failed if (pod.failure_reason or "Failed") == most),
        key=lambda pod: (pod.failed_at or pod.created_at, pod.name),
    )
    counts = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    pods = "1 pod has" if len(failed) == 1 else f"{len(failed)} pods have"
    selector = f"{Label.RESOURCE}={observed.resource.name}"
    return Problem(
        ConditionReason.PODS_FAILED,
        f"{pods} failed ({counts}){_where(failed)}: {quote_start(newest.failure_message or most)} "
        f"{_remedy(most)} kubectl get pods -n {observed.resource.namespace} -l {selector} "
        "--field-selector status.phase=Failed lists them.",
    )


def _relevant(observed: Observed, now: float) -> list[Pod]:
    living = [pod for pod in observed.pods if not pod.terminating and not pod.ended]
    desired = _desired(observed)
    if desired is None or sum(pod.serves for pod in living) >= desired:
        return []
    recovered_at = max((pod.ready_at or 0.0 for pod in living if pod.ready), default=0.0)
    failed = [
        pod
        for pod in observed.pods
        if pod.phase == "Failed" and not pod.terminating and _failed_at(pod) > recovered_at
    ]
    recent = [pod for pod in failed if now - _failed_at(pod) < RECENT_SECONDS]
    if len(living) < desired:
        return recent or failed
    return recent if len(recent) >= _SEVERAL else []


def _desired(observed: Observed) -> int | None:
    """Return the Deployment's count; None before its controller observed it."""
    if observed.deployment is ABSENT:
        return None
    generation = (observed.deployment.get("metadata") or {}).get("generation", 0)
    if (observed.deployment.get("status") or {}).get("observedGeneration", -1) < generation:
        return None
    count = (observed.deployment.get("spec") or {}).get("replicas")
    return count if isinstance(count, int) else None


def _failed_at(pod: Pod) -> float:
    return pod.failed_at or pod.created_at


def _where(failed: list[Pod]) -> str:
    nodes = Counter(pod.node for pod in failed if pod.node)
    if not nodes:
        return ""
    named = ", ".join(node for node, _ in nodes.most_common(_NAMED_NODES) if node)
    more = len(nodes) - _NAMED_NODES
    return f" on {named}" + (f" and {more} more nodes" if more > 0 else "")


def _remedy(reason: str) -> str:
    return next((text for start, text in _REMEDIES if reason.startswith(start)), "")

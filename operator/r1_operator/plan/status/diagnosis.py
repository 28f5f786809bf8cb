"""Diagnosis of replicas that are not ready, with the remedy.

The rules are ordered from causes that stop every pod to causes that stop one; the first match is reported.
Each message ends with the remedy. Messages of scheduler, kubelet and API server are quoted, because people
search for them.
"""

import re
from collections.abc import Callable

from r1_operator.api.names import ConditionReason
from r1_operator.plan.container_state import Container
from r1_operator.plan.problem import Problem, quote
from r1_operator.plan.snapshot import ABSENT, Observed, Pod, condition_of
from r1_operator.plan.status.child_failures import failed_children
from r1_operator.plan.status.container_failures import (
    crash_loops,
    ended,
    failing,
    not_configured,
    not_pulled,
    seconds_until_recovered,
)
from r1_operator.plan.status.failed_pods import failed_pods
from r1_operator.plan.workload.accelerators import accelerators_of

SANDBOX_SECONDS = 15.0
"""Mounts and network take about two seconds; this long means that something is missing."""


def diagnose(observed: Observed, now: float) -> Problem | None:
    """Return the problem that keeps replicas from being ready, None without one."""
    return (
        foreign_child(observed)
        or failed_children(observed)
        or _rejected_pods(observed)
        or _containers(observed, now)
        or _pods(observed)
        or failed_pods(observed, now)
        or crash_loops(observed, now)
        or _no_sandbox(observed, now)
        or _deadline(observed)
    )


def requeue_delay(observed: Observed, now: float) -> float | None:
    """Return the seconds until a pod without a change counts as a problem."""
    waits = [min(since, now) + SANDBOX_SECONDS - now for since, _ in _without_sandbox(observed)]
    waits = [wait for wait in waits if wait >= 0]
    recovered = seconds_until_recovered(observed, now)
    return min(waits if recovered is None else [*waits, recovered], default=None)


def foreign_child(observed: Observed) -> Problem | None:
    """Return a child of that name with another owner: nothing may be applied."""
    children = (
        ("Deployment", observed.deployment),
        ("Service", observed.service),
        ("PodDisruptionBudget", observed.disruption_budget),
        ("ConfigMap", observed.route),
        ("ServiceMonitor", observed.service_monitor),
    )
    for kind, child in children:
        if child is ABSENT:
            continue
        metadata = child.get("metadata") or {}
        owners = metadata.get("ownerReferences") or ()
        if not any(owner.get("uid") == observed.resource.uid for owner in owners):
            return Problem(
                ConditionReason.CHILD_NOT_OWNED,
                f"{kind} {metadata.get('name')} exists and does not belong to this R1Inference: "
                "delete it, or give the R1Inference another name.",
            )
    return None


def _rejected_pods(observed: Observed) -> Problem | None:
    failure = condition_of(observed.deployment, "ReplicaFailure")
    if failure.get("status") != "True":
        return None
    # The rejected pod has a new name at each attempt.
    text = re.sub(r'^pods "[^"]*" is forbidden: ', "", failure.get("message") or "")
    if "exceeded quota" in text:
        return Problem(
            ConditionReason.QUOTA_EXCEEDED,
            f"The namespace's quota allows no more pods: {quote(text)} Raise the ResourceQuota, "
            "or lower the replicas or spec.resources.",
        )
    remedy = "Correct spec.template, or ask the owner of the namespace."
    if "violates PodSecurity" in text:
        remedy = "Remove the security settings that spec.template loosens, or relax the namespace's Pod Security level."
    return Problem(
        ConditionReason.POD_REJECTED, f"The API server rejects the pods: {quote(text)} {remedy}"
    )


def _containers(observed: Observed, now: float) -> Problem | None:
    found = list(failing(observed, now))
    for rule in CONTAINER_RULES:
        for pod, container in found:
            problem = rule(observed, pod, container, now)
            if problem is not None:
                return problem
    return None


def _pods(observed: Observed) -> Problem | None:
    waiting = [pod for pod in observed.pods if not (pod.ready or pod.terminating or pod.ended)]
    for rule in POD_RULES:
        for pod in sorted(waiting, key=lambda pod: (pod.created_at, pod.name)):
            problem = rule(observed, pod)
            if problem is not None:
                return problem
    return None


def _claim(observed: Observed, pod: Pod) -> Problem | None:
    text = pod.unschedulable_message
    missing = re.search(r'persistentvolumeclaim "([^"]+)" not found', text)
    if missing:
        return Problem(
            ConditionReason.MISSING_VOLUME_CLAIM,
            f"PersistentVolumeClaim {missing[1]} does not exist in namespace "
            f"{observed.resource.namespace}: create it, or correct "
            "spec.model.source.persistentVolumeClaim.claimName.",
        )
    if "unbound immediate PersistentVolumeClaims" in text:
        return Problem(
            ConditionReason.VOLUME_CLAIM_UNBOUND,
            f"Pod {pod.name} is waiting for its volume: {quote(text)} Check the claim's storage class "
            "and capacity (kubectl describe pvc).",
        )
    return None


def _unschedulable(observed: Observed, pod: Pod) -> Problem | None:
    if not pod.unschedulable_message:
        return None
    resource = observed.resource
    amounts: dict[str, object] = dict(resource.spec.resources.limits)
    amounts |= resource.spec.resources.requests
    amounts |= accelerators_of(resource.spec, observed.defaults).replica
    requests = ", ".join(f"{quantity} {name}" for name, quantity in sorted(amounts.items()))
    living = [one for one in observed.pods if not (one.terminating or one.ended)]
    unschedulable = sum(bool(one.unschedulable_message) for one in living)
    remedy = "Add nodes, or lower spec.resources or the replicas."
    if re.search(r"Insufficient [\w.-]+/", pod.unschedulable_message):
        remedy = "Add nodes with free devices, or lower the replicas."
    elif re.search(r"untolerated taint|node selector|node affinity", pod.unschedulable_message):
        remedy = "Check tolerations, nodeSelector and affinity in spec.template."
    if resource.spec.rollout.max_unavailable == 0 and _rolls(observed):
        remedy += (
            " A rollout without capacity for one more replica needs spec.rollout.maxSurge 0 and "
            "maxUnavailable 1."
        )
    return Problem(
        ConditionReason.UNSCHEDULABLE,
        f"{unschedulable} of {len(living)} pods are unschedulable; each requests {requests or 'no resources'}. "
        f"Scheduler: {quote(pod.unschedulable_message)} {remedy}",
    )


def _mounts(observed: Observed, pod: Pod) -> Problem | None:
    if not pod.mount_message or pod.started_at is not None:
        return None
    text = pod.mount_message
    for kind, reason in (
        ("secret", ConditionReason.MISSING_SECRET),
        ("configmap", ConditionReason.MISSING_CONFIG_MAP),
    ):
        if re.search(rf'{kind} "[^"]+" not found', text, re.IGNORECASE):
            return Problem(
                reason,
                f"A volume of pod {pod.name} cannot be mounted: {quote(text)} Create it in "
                f"namespace {observed.resource.namespace}, or correct spec.template.",
            )
    return Problem(
        ConditionReason.VOLUME_NOT_MOUNTED,
        f"A volume of pod {pod.name} cannot be mounted: {quote(text)} Check the volume and "
        "spec.model.source.",
    )


def _without_sandbox(observed: Observed) -> list[tuple[float, Pod]]:
    return [
        (_awaited_since(pod, pod.scheduled_at), pod)
        for pod in observed.pods
        if pod.lacks_sandbox and pod.scheduled_at is not None and not (pod.terminating or pod.ended)
    ]


def _awaited_since(pod: Pod, scheduled_at: float) -> float:
    since = pod.sandbox_awaited_since
    return scheduled_at if since is None else since


def _no_sandbox(observed: Observed, now: float) -> Problem | None:
    """Report a pod without sandbox: a failed mount is in the pod's events only."""
    for since, pod in sorted(_without_sandbox(observed), key=lambda item: (item[0], item[1].name)):
        if now - since > SANDBOX_SECONDS:
            return Problem(
                ConditionReason.VOLUME_NOT_MOUNTED,
                f"Pod {pod.name} is scheduled and cannot start: most often a Secret, ConfigMap or "
                "volume of spec.template or spec.model.source is missing or cannot be "
                f"mounted. See the events in kubectl describe pod {pod.name} -n "
                f"{observed.resource.namespace}.",
            )
    return None


CONTAINER_RULES: tuple[Callable[[Observed, Pod, Container, float], Problem | None], ...] = (
    not_configured,
    not_pulled,
    ended,
)
POD_RULES: tuple[Callable[[Observed, Pod], Problem | None], ...] = (_claim, _mounts, _unschedulable)


def _deadline(observed: Observed) -> Problem | None:
    progressing = condition_of(observed.deployment, "Progressing")
    if progressing.get("reason") != "ProgressDeadlineExceeded":
        return None
    return Problem(
        ConditionReason.DEADLINE_EXCEEDED,
        "The rollout made no progress for "
        f"{observed.resource.spec.rollout.progress_deadline_seconds} s: see the pods' logs, or "
        "raise spec.rollout.progressDeadlineSeconds if the model loads slowly.",
    )


def _rolls(observed: Observed) -> bool:
    living = [pod for pod in observed.pods if not (pod.terminating or pod.ended)]
    hashes = {pod.labels.get("pod-template-hash") for pod in living}
    return len(hashes) > 1

"""Why replicas do not serve, and what to do about it.

Rules in order, from what stops every pod to what stops one; the first that applies names
the problem. Each message ends with the remedy. The words of scheduler, kubelet and API
server are quoted, because people search for them.
"""

import re
from collections.abc import Callable

from r1_operator.api import names
from r1_operator.api.names import Reason
from r1_operator.api.serving import EngineType
from r1_operator.plan.child_failures import failed_children
from r1_operator.plan.problem import Problem, quote
from r1_operator.plan.snapshot import ABSENT, Found, Object, Observed, Pod

MODEL_LOAD_EXIT_CODE = 2
"""The bundled runtime exits with it when the model cannot be loaded."""
SANDBOX_SECONDS = 15.0
"""Mounting and networking take a second or two; this long means that something is missing."""
KILLED_EXIT_CODES = (137, 143)
PULL_REASONS = (
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "ImageInspectError",
    "RegistryUnavailable",
)
START_REASONS = ("RunContainerError", "CreateContainerError", "CreateContainerConfigError")


def diagnose(observed: Observed, now: float) -> Problem | None:
    """What keeps the resource from having all its replicas, None when nothing is known."""
    return (
        foreign_child(observed)
        or failed_children(observed)
        or _rejected_pods(observed)
        or _pods(observed)
        or _no_sandbox(observed, now)
        or _deadline(observed)
    )


def seconds_until_more_is_known(observed: Observed, now: float) -> float | None:
    """When to look again though nothing changes: a pod's silence becomes a problem with time."""
    waits = [since + SANDBOX_SECONDS - now for since, _ in _without_sandbox(observed)]
    return min((wait for wait in waits if wait >= 0), default=None)


def condition(found: Found, kind: str) -> Object:
    """A condition of a child, {} when it is not there."""
    if found is ABSENT:
        return {}
    conditions = (found.get("status") or {}).get("conditions") or ()
    return next((one for one in conditions if one.get("type") == kind), {})


def foreign_child(observed: Observed) -> Problem | None:
    """A child of that name which is somebody else's: nothing may be applied."""
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
                Reason.CHILD_NOT_OWNED,
                f"{kind} {metadata.get('name')} exists and does not belong to this R1Inference: "
                "delete it, or give the R1Inference another name.",
            )
    return None


def _rejected_pods(observed: Observed) -> Problem | None:
    failure = condition(observed.deployment, "ReplicaFailure")
    if failure.get("status") != "True":
        return None
    # The name of the pod that was refused is a new one at each try.
    text = re.sub(r'^pods "[^"]*" is forbidden: ', "", failure.get("message") or "")
    if "exceeded quota" in text:
        return Problem(
            Reason.QUOTA_EXCEEDED,
            f"The namespace's quota allows no more pods: {quote(text)} Raise the ResourceQuota, "
            "or lower the replicas or spec.resources.",
        )
    remedy = "Correct spec.template, or ask who owns the namespace."
    if "violates PodSecurity" in text:
        remedy = "Remove what spec.template loosens, or relax the namespace's Pod Security level."
    return Problem(Reason.POD_REJECTED, f"Pods may not be created: {quote(text)} {remedy}")


def _pods(observed: Observed) -> Problem | None:
    waiting = [pod for pod in observed.pods if not pod.ready and not pod.terminating]
    waiting = [pod for pod in waiting if pod.phase not in ("Succeeded", "Failed")]
    for rule in POD_RULES:
        for pod in sorted(waiting, key=lambda pod: (pod.created_at, pod.name)):
            problem = rule(observed, pod)
            if problem is not None:
                return problem
    return None


def _container_config(observed: Observed, pod: Pod) -> Problem | None:
    if pod.waiting_reason not in START_REASONS:
        return None
    text = pod.waiting_message
    namespace = observed.resource.namespace
    for kind, reason in (
        ("secret", Reason.MISSING_SECRET),
        ("configmap", Reason.MISSING_CONFIG_MAP),
    ):
        if re.search(rf"\b{kind} ?\"?[^ ]*\"? not found|in {kind} ", text, re.IGNORECASE):
            what = "Secret" if kind == "secret" else "ConfigMap"
            return Problem(
                reason,
                f"Pod {pod.name} cannot start: {quote(text)} Create the {what} (with that key) in "
                f"namespace {namespace}, or correct spec.template.",
            )
    return _start_failed(pod, text)


def _start_failed(pod: Pod, text: str) -> Problem:
    remedy = "Check spec.engine.image and spec.template."
    if "non-root" in text or "runAsNonRoot" in text or "run as root" in text:
        remedy = "The pod must not run as root: remove what spec.template changes about the user."
    return Problem(
        Reason.CONTAINER_START_FAILED,
        f"The container of pod {pod.name} cannot be started: {quote(text)} {remedy}",
    )


def _image_pull(observed: Observed, pod: Pod) -> Problem | None:
    if pod.waiting_reason not in PULL_REASONS:
        return None
    text = pod.waiting_message
    remedy = "Check spec.engine.image and that nodes reach the registry."
    if re.search(r"unauthorized|denied|authenti|forbidden|\b40[13]\b", text, re.IGNORECASE):
        remedy = "Name a pull secret in spec.template.spec.imagePullSecrets."
    if pod.waiting_reason == "ErrImageNeverPull":
        remedy = "The pull policy is Never: load the image onto the node first."
    if observed.resource.spec.engine.image is None:
        remedy += " The image is the operator's default; spec.engine.image overrides it."
    return Problem(
        Reason.IMAGE_PULL_FAILED,
        f"The image of pod {pod.name} cannot be pulled ({pod.waiting_reason}): {quote(text)} "
        f"{remedy}",
    )


def _claim(observed: Observed, pod: Pod) -> Problem | None:
    text = pod.unschedulable_message
    missing = re.search(r'persistentvolumeclaim "([^"]+)" not found', text)
    if missing:
        return Problem(
            Reason.MISSING_VOLUME_CLAIM,
            f"PersistentVolumeClaim {missing[1]} does not exist in namespace "
            f"{observed.resource.namespace}: create it, or correct "
            "spec.model.source.persistentVolumeClaim.claimName.",
        )
    if "unbound immediate PersistentVolumeClaims" in text:
        return Problem(
            Reason.VOLUME_CLAIM_UNBOUND,
            f"Pod {pod.name} waits for its volume: {quote(text)} Check the claim's storage class "
            "and capacity (kubectl describe pvc).",
        )
    return None


def _unschedulable(observed: Observed, pod: Pod) -> Problem | None:
    if not pod.unschedulable_message:
        return None
    resource = observed.resource
    asked = dict(resource.spec.resources.limits) | dict(resource.spec.resources.requests)
    asks = ", ".join(f"{quantity} {name}" for name, quantity in sorted(asked.items()))
    stuck = sum(1 for one in observed.pods if one.unschedulable_message and not one.terminating)
    whole = len([one for one in observed.pods if not one.terminating])
    remedy = "Add nodes, or lower spec.resources or the replicas."
    if re.search(r"Insufficient [\w.-]+/", pod.unschedulable_message):
        remedy = "Add nodes with free devices, or lower the replicas."
    elif re.search(r"untolerated taint|node selector|node affinity", pod.unschedulable_message):
        remedy = "Check tolerations, nodeSelector and affinity in spec.template."
    if resource.spec.rollout.max_unavailable == 0 and _rolls(observed):
        remedy += (
            " A rollout without room for one more replica needs spec.rollout.maxSurge 0 and "
            "maxUnavailable 1."
        )
    return Problem(
        Reason.UNSCHEDULABLE,
        f"{stuck} of {whole} pods find no node; each asks for {asks or 'nothing in particular'}. "
        f"The scheduler says: {quote(pod.unschedulable_message)} {remedy}",
    )


def _mounts(observed: Observed, pod: Pod) -> Problem | None:
    if not pod.mount_message or pod.started_at is not None:
        return None
    text = pod.mount_message
    for kind, reason in (
        ("secret", Reason.MISSING_SECRET),
        ("configmap", Reason.MISSING_CONFIG_MAP),
    ):
        if re.search(rf'{kind} "[^"]+" not found', text, re.IGNORECASE):
            return Problem(
                reason,
                f"A volume of pod {pod.name} cannot be mounted: {quote(text)} Create it in "
                f"namespace {observed.resource.namespace}, or correct spec.template.",
            )
    return Problem(
        Reason.VOLUME_NOT_MOUNTED,
        f"A volume of pod {pod.name} cannot be mounted: {quote(text)} Check the volume and "
        "spec.model.source.",
    )


def _without_sandbox(observed: Observed) -> list[tuple[float, Pod]]:
    return [
        (pod.scheduled_at, pod)
        for pod in observed.pods
        if pod.lacks_sandbox and pod.scheduled_at is not None and not pod.terminating
    ]


def _no_sandbox(observed: Observed, now: float) -> Problem | None:
    """A volume that cannot be mounted is in the pod's events only; its status is just silent."""
    for since, pod in sorted(_without_sandbox(observed), key=lambda item: (item[0], item[1].name)):
        if now - since > SANDBOX_SECONDS:
            return Problem(
                Reason.VOLUME_NOT_MOUNTED,
                f"Pod {pod.name} has a node and cannot start: most often a Secret, ConfigMap or "
                "volume that spec.template or spec.model.source names is missing or cannot be "
                f"mounted. kubectl describe pod {pod.name} -n {observed.resource.namespace} has "
                "the events.",
            )
    return None


def _ended(observed: Observed, pod: Pod) -> Problem | None:
    if pod.exit_code is None and pod.waiting_reason != "CrashLoopBackOff":
        return None
    text = pod.termination_message or pod.waiting_message
    if pod.termination_reason in ("StartError", "ContainerCannotRun"):
        return _start_failed(pod, text)
    if pod.termination_reason == "OOMKilled":
        return Problem(
            Reason.OUT_OF_MEMORY,
            f"Pod {pod.name} was killed because it used more memory than its limit "
            f"({pod.restarts} restarts): raise spec.resources.limits.memory, or lower "
            "spec.runtime.kvCacheBlocks or maxConcurrentSequences.",
        )
    if re.search(
        r"unrecognized arguments|^usage: |error: argument |command line: ", text, re.MULTILINE
    ):
        return Problem(
            Reason.ENGINE_ARGUMENTS_REFUSED,
            f"The engine refused its command line: {quote(text)} Correct spec.engine.args.",
        )
    bundled = observed.resource.spec.engine.type is EngineType.BUNDLED
    if bundled and pod.exit_code == MODEL_LOAD_EXIT_CODE:
        return Problem(
            Reason.MODEL_LOAD_FAILED,
            f"Pod {pod.name} could not load the model: {quote(text)} Check spec.model.source "
            "and spec.runtime.",
        )
    if pod.exit_code in KILLED_EXIT_CODES and pod.termination_reason == "Error":
        deadline = observed.resource.spec.rollout.progress_deadline_seconds
        return Problem(
            Reason.CRASH_LOOPING,
            f"Pod {pod.name} was killed before it became ready ({pod.restarts} restarts): if the "
            f"model needs more than {deadline} s to load, raise "
            f"spec.rollout.progressDeadlineSeconds. {_last_words(text)}",
        )
    return Problem(
        Reason.CRASH_LOOPING,
        f"The engine of pod {pod.name} ended with exit code {pod.exit_code} ({pod.restarts} "
        f"restarts). {_last_words(text)} See kubectl logs -c {names.CONTAINER} --previous "
        f"{pod.name} -n {observed.resource.namespace}.",
    )


POD_RULES: tuple[Callable[[Observed, Pod], Problem | None], ...] = (
    _container_config,
    _image_pull,
    _ended,
    _claim,
    _mounts,
    _unschedulable,
)


def _deadline(observed: Observed) -> Problem | None:
    progressing = condition(observed.deployment, "Progressing")
    if progressing.get("reason") != "ProgressDeadlineExceeded":
        return None
    return Problem(
        Reason.DEADLINE_EXCEEDED,
        "The rollout stood still for "
        f"{observed.resource.spec.rollout.progress_deadline_seconds} s: see the pods' logs, or "
        "raise spec.rollout.progressDeadlineSeconds if the model loads slowly.",
    )


def _rolls(observed: Observed) -> bool:
    hashes = {pod.labels.get("pod-template-hash") for pod in observed.pods if not pod.terminating}
    return len(hashes) > 1


def _last_words(text: str) -> str:
    return f"Its last words: {quote(text)}" if text.strip() else "It left no message."

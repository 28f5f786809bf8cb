"""Failing containers of a pod: exit, cause and remedy.

A restarting container waits, runs for a moment, and exits. So a failure is reported until the container
has run for ten minutes, and the report stays the same between two restarts. The kubelet resets its
back-off after the same ten minutes.
"""

import re
from collections.abc import Iterator
from typing import Final

from r1_operator.api.names import ConditionReason
from r1_operator.api.serving import EngineType
from r1_operator.plan.container_state import Container, Role
from r1_operator.plan.problem import Problem, quote
from r1_operator.plan.snapshot import Observed, Pod

MODEL_LOAD_EXIT_CODE: Final = 2
"""Exit code of the bundled runtime for a model that cannot be loaded."""
RECOVERED_SECONDS: Final = 600.0
LOOPING_RESTARTS: Final = 2
"""Restarts from which a ready pod is reported; a single restart is not."""
KILLED_EXIT_CODES: Final = (137, 143)
PULL_REASONS: Final = (
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "ImageInspectError",
    "RegistryUnavailable",
    "SignatureValidationFailed",
)
START_REASONS: Final = (
    "RunContainerError",
    "CreateContainerError",
    "CreateContainerConfigError",
    "PreCreateHookError",
    "PreStartHookError",
    "PostStartHookError",
    "ContainerCannotRun",
)


def crash_loops(observed: Observed, now: float) -> Problem | None:
    """Return a container that restarts repeatedly in a pod that is ready in between."""
    for pod in _by_age(observed):
        for container in pod.containers if pod.ready else ():
            if _loops(container, now):
                return ended(observed, pod, container, now)
    return None


def failing(observed: Observed, now: float) -> Iterator[tuple[Pod, Container]]:
    """Yield the failing containers of pods that are not ready, oldest pod first."""
    for pod in _by_age(observed):
        for container in () if pod.ready else pod.containers:
            if not _recovered(observed, container, now):
                yield pod, container


def seconds_until_recovered(observed: Observed, now: float) -> float | None:
    """Return the seconds until the first restarted container counts as recovered."""
    waits = [
        window - container.has_run(now)
        for pod in _by_age(observed)
        for container in pod.containers
        for window in (RECOVERED_SECONDS, _window(observed, container))
        if container.running and container.ended is not None and container.has_run(now) < window
    ]
    return min(waits, default=None)


def _by_age(observed: Observed) -> list[Pod]:
    living = [pod for pod in observed.pods if not pod.terminating and not pod.ended]
    return sorted(living, key=lambda pod: (pod.created_at, pod.name))


def _loops(container: Container, now: float) -> bool:
    end = container.ended
    if end is None or not container.running or container.restarts < LOOPING_RESTARTS:
        return False
    short = end.seconds is None or end.seconds < RECOVERED_SECONDS
    return short and container.has_run(now) < RECOVERED_SECONDS


def _recovered(observed: Observed, container: Container, now: float) -> bool:
    return container.running and container.has_run(now) >= _window(observed, container)


def _window(observed: Observed, container: Container) -> float:
    """A container that is not ready may still be loading until the rollout's deadline."""
    if container.ready:
        return RECOVERED_SECONDS
    return max(RECOVERED_SECONDS, observed.resource.spec.rollout.progress_deadline_seconds)


def not_configured(observed: Observed, pod: Pod, container: Container, _: float) -> Problem | None:
    """Report a missing Secret or ConfigMap, or a container that cannot be created."""
    if container.waiting_reason not in START_REASONS:
        return None
    text = container.waiting_message
    namespace = observed.resource.namespace
    for kind, reason in (
        ("secret", ConditionReason.MISSING_SECRET),
        ("configmap", ConditionReason.MISSING_CONFIG_MAP),
    ):
        if re.search(rf"\b{kind} ?\"?[^ ]*\"? not found|in {kind} ", text, re.IGNORECASE):
            what = "Secret" if kind == "secret" else "ConfigMap"
            return Problem(
                reason,
                f"Pod {pod.name} cannot start {container.title}: {quote(text)} Create the {what} "
                f"(with that key) in namespace {namespace}, or correct spec.template.",
            )
    return _start_failed(pod, container, text)


def _start_failed(pod: Pod, container: Container, text: str) -> Problem:
    remedy = "Check spec.engine.image and spec.template."
    if container.role is not Role.ENGINE:
        remedy = f"Check the image and the command of container {container.name} in spec.template."
    if "non-root" in text or "runAsNonRoot" in text or "run as root" in text:
        remedy = "The pod must not run as root: remove the user settings from spec.template."
    return Problem(
        ConditionReason.CONTAINER_START_FAILED,
        f"{_capital(container.title)} of pod {pod.name} cannot be started: {quote(text)} {remedy}",
    )


def not_pulled(observed: Observed, pod: Pod, container: Container, _: float) -> Problem | None:
    """Report an image that cannot be pulled."""
    if container.waiting_reason not in PULL_REASONS:
        return None
    text = container.waiting_message
    ours = container.role is Role.ENGINE
    field = "spec.engine.image" if ours else f"the image of {container.name} in spec.template"
    remedy = f"Check {field} and that nodes reach the registry."
    if re.search(r"unauthorized|denied|authenti|forbidden|\b40[13]\b", text, re.IGNORECASE):
        remedy = "Name a pull secret in spec.template.spec.imagePullSecrets."
    if container.waiting_reason == "ErrImageNeverPull":
        remedy = "The pull policy is Never: load the image onto the node first."
    if ours and observed.resource.spec.engine.image is None:
        remedy += " The image is the operator's default; spec.engine.image overrides it."
    return Problem(
        ConditionReason.IMAGE_PULL_FAILED,
        f"The image of {container.title} of pod {pod.name} cannot be pulled "
        f"({container.waiting_reason}): {quote(text)} {remedy}",
    )


def ended(observed: Observed, pod: Pod, container: Container, _: float) -> Problem | None:
    """Report a container that exited, in whatever state it is now."""
    end = container.ended
    if end is None and container.waiting_reason != "CrashLoopBackOff":
        return None
    # While the container waits, the kubelet's message describes the wait, not the exit.
    text = end.message if end is not None else container.waiting_message
    reason = end.reason if end is not None else ""
    if reason in ("StartError", "ContainerCannotRun"):
        return _start_failed(pod, container, text)
    if reason == "OOMKilled":
        return Problem(
            ConditionReason.OUT_OF_MEMORY,
            f"{_out_of_memory(pod, container)} {_see(observed, pod, container)}",
        )
    if container.role is Role.ENGINE:
        known = _known_end(observed, pod, container, text)
        if known is not None:
            return known
    how = f"exited with {end.summary}" if end is not None else "exits repeatedly"
    return Problem(
        ConditionReason.CRASH_LOOPING,
        f"{_capital(container.title)} of pod {pod.name} {how} ({container.restarts} restarts). "
        f"{_last_output(text)} {_see(observed, pod, container)}",
    )


def _known_end(observed: Observed, pod: Pod, container: Container, text: str) -> Problem | None:
    """Report exits of the engine with a known cause."""
    code = container.ended.exit_code if container.ended is not None else None
    reason = container.ended.reason if container.ended is not None else ""
    if re.search(
        r"unrecognized arguments|^usage: |error: argument |command line: ", text, re.MULTILINE
    ):
        return Problem(
            ConditionReason.ENGINE_ARGUMENTS_REJECTED,
            f"The engine rejected its command line: {quote(text)} Correct spec.engine.args.",
        )
    bundled = observed.resource.spec.engine.type is EngineType.BUNDLED
    if bundled and code == MODEL_LOAD_EXIT_CODE:
        return Problem(
            ConditionReason.MODEL_LOAD_FAILED,
            f"Pod {pod.name} could not load the model: {quote(text)} Check spec.model.source "
            "and spec.runtime.",
        )
    if code in KILLED_EXIT_CODES and reason == "Error" and not pod.ready:
        deadline = observed.resource.spec.rollout.progress_deadline_seconds
        return Problem(
            ConditionReason.CRASH_LOOPING,
            f"Pod {pod.name} was killed before it became ready ({container.restarts} restarts): if "
            f"the model needs more than {deadline} s to load, raise "
            f"spec.rollout.progressDeadlineSeconds. {_last_output(text)}",
        )
    return None


def _out_of_memory(pod: Pod, container: Container) -> str:
    restarts = f"{container.restarts} restarts"
    if container.role is Role.ENGINE:
        return (
            f"Pod {pod.name} was killed because it used more memory than its limit ({restarts}): "
            "raise spec.resources.limits.memory, or lower spec.runtime.kvCacheBlocks or "
            "maxConcurrentSequences."
        )
    return (
        f"{_capital(container.title)} of pod {pod.name} was killed with exit code 137 because it "
        f"used more memory than its limit ({restarts}): raise resources.limits.memory of container "
        f"{container.name} in spec.template."
    )


def _see(observed: Observed, pod: Pod, container: Container) -> str:
    return (
        f"See kubectl logs -c {container.name} --previous {pod.name} -n "
        f"{observed.resource.namespace}."
    )


def _last_output(text: str) -> str:
    return f"Last output: {quote(text)}" if text.strip() else "No output."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]

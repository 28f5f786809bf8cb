"""What is there of a backtest: its Job, and what its pod left behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from r1_common.untrusted_json import InvalidJson, parse_json
from r1_operator.api.backtest import R1Backtest
from r1_operator.api.names import Annotation, BacktestReason
from r1_operator.api.v1 import R1Inference, unix_seconds
from r1_operator.plan.snapshot import Defaults

CONTAINER: Final = "backtest"
"""The site's template may add others, whose end is not the answer."""


@dataclass(frozen=True, slots=True)
class BacktestReport:
    """How the container `backtest` ended, with its termination message.

    `exit_code` is None where the pod failed before it or beside it: `reason` and `message` are then
    the kubelet's, or of the container that failed.
    """

    exit_code: int | None
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why a Job's pod has not begun, in Kubernetes' words, and since when it is there to begin.

    `since` is the pod's creation by the API server's clock; the controller replaces it by when it
    first observed the wait, by the clock of `now`.
    """

    reason: BacktestReason
    words: str
    since: float


@dataclass(frozen=True, slots=True)
class Run:
    """A Job. `ended_at` and `end_reason` are of its condition Complete or Failed; None: it goes on.

    `end_noticed_at` is when the controller first observed the end, by the clock of `now` (None: by
    `ended_at`).
    """

    name: str
    uid: str
    created_at: float
    autoscaling_hash: str
    start_seconds: int
    ended_at: float | None = None
    end_reason: str = ""
    end_message: str = ""
    end_noticed_at: float | None = None


@dataclass(frozen=True, slots=True)
class BacktestSite:
    """What the operator's settings say. Empty: there is none."""

    namespace: str
    image: str
    prometheus_url: str
    template: Mapping[str, Any]
    """A pod template that is merged over ours, as an R1Inference's is."""
    defaults: Defaults | None = None
    """What is filled in for R1Inferences: accelerators that a replica holds are counted with it."""
    prometheus_client: str = ""
    """The client configuration for Prometheus as JSON; its files are volumes of the template."""


@dataclass(frozen=True, slots=True)
class BacktestObservation:
    """Everything that a plan for one R1Backtest looks at."""

    backtest: R1Backtest
    site: BacktestSite
    inference: R1Inference | None = None
    run: Run | None = None
    answer: BacktestReport | None = None
    waiting: Waiting | None = None
    """Why its pod has not begun; None: it has, or there is no Job."""
    busy_with: str | None = None
    """`namespace/name` of another one whose Job goes on."""
    lead_seconds: float | None = None
    """What a replica was measured to take; None: nothing was."""
    refusal: str | None = None
    """Why the Job could not be created, in the API server's words."""
    refusal_may_pass: bool = False
    """The same Job may be taken later."""
    unread: str | None = None
    """Why its Job could not be read; None: it was, or there is nothing to read."""


def read_run(job: Mapping[str, Any]) -> Run:
    """Reduce a Job object as the API server returned it."""
    metadata = job["metadata"]
    annotations = metadata.get("annotations") or {}
    run = Run(
        name=metadata["name"],
        uid=metadata.get("uid", ""),
        created_at=unix_seconds(metadata["creationTimestamp"]),
        autoscaling_hash=annotations.get(Annotation.AUTOSCALING_HASH, ""),
        start_seconds=int(annotations.get(Annotation.START_SECONDS, 0)),
    )
    for condition in (job.get("status") or {}).get("conditions") or ():
        if condition["type"] in ("Complete", "Failed") and condition["status"] == "True":
            return Run(
                run.name,
                run.uid,
                run.created_at,
                run.autoscaling_hash,
                run.start_seconds,
                unix_seconds(condition["lastTransitionTime"]),
                condition.get("reason", ""),
                condition.get("message", ""),
            )
    return run


def read_answer(pod: Mapping[str, Any]) -> BacktestReport | None:
    """How the pod's backtest ended; None while it has not."""
    status = pod.get("status") or {}
    other: BacktestReport | None = None
    for one in (*_statuses(status, "init"), *_statuses(status, "")):
        ended = (one.get("state") or {}).get("terminated")
        if ended is None:
            continue
        reason, message = ended.get("reason", ""), ended.get("message", "")
        if one.get("name") in (None, CONTAINER):
            return BacktestReport(ended["exitCode"], reason, message)
        if ended["exitCode"] != 0 and other is None:
            words = f"container {one.get('name')} ended with exit code {ended['exitCode']}: "
            other = BacktestReport(None, reason, (words + message).rstrip(": "))
    if status.get("phase") != "Failed":
        return None
    return other or BacktestReport(
        None, status.get("reason") or "Failed", status.get("message") or ""
    )


def _statuses(status: Mapping[str, Any], kind: str) -> Sequence[Mapping[str, Any]]:
    return status.get("initContainerStatuses" if kind else "containerStatuses") or ()


def read_waiting(pod: Mapping[str, Any]) -> Waiting | None:
    """Why the pod has not begun; None where it has."""
    status = pod.get("status") or {}
    since = unix_seconds(pod["metadata"]["creationTimestamp"])
    if status.get("phase", "Pending") != "Pending":
        return None
    for one in (*_statuses(status, "init"), *_statuses(status, "")):
        waiting = (one.get("state") or {}).get("waiting") or {}
        told = waiting.get("reason")
        if told not in (None, "ContainerCreating", "PodInitializing"):
            reason = (
                BacktestReason.IMAGE_PULL_FAILED
                if told in _PULLING
                else BacktestReason.CONTAINER_START_FAILED
            )
            words = f"{told}: {waiting.get('message', '')}".rstrip(": ")
            if one.get("name") not in (None, CONTAINER):
                words = f"container {one['name']}: {words}"
            return Waiting(reason, words, since)
    for condition in status.get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            words = f"{condition.get('reason', '')}: {condition.get('message', '')}".strip(": ")
            return Waiting(BacktestReason.UNSCHEDULABLE, words, since)
    return Waiting(BacktestReason.POD_NOT_STARTED, "The kubelet prepares it", since)


_PULLING = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "ImageInspectError",
        "RegistryUnavailable",
    }
)


def without_pod(run: Run) -> Waiting:
    """What is said of a Job that has no pod."""
    return Waiting(BacktestReason.POD_NOT_CREATED, "Its Job has made no pod", run.created_at)


def read_message(message: str) -> Mapping[str, Any]:
    """The short form of a backtest, or `{"error": ...}`; anything else is taken as the error."""
    try:
        found = parse_json(message)
    except InvalidJson:
        found = None
    return found if isinstance(found, dict) else {"error": message.strip()}

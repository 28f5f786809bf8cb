"""Observed state of a backtest: its Job and its pod's result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from r1_common.untrusted_json import InvalidJson, parse_json
from r1_operator.api.backtest.spec import R1Backtest
from r1_operator.api.names import Annotation, BacktestReason
from r1_operator.api.v1 import R1Inference, unix_seconds
from r1_operator.plan.snapshot import Defaults

CONTAINER: Final = "backtest"
"""The site's template may add containers, whose exit is not the result."""


@dataclass(frozen=True, slots=True)
class BacktestReport:
    """Exit of the container `backtest` with its termination message.

    `exit_code` is None where the pod failed otherwise: `reason` and `message` are then the kubelet's, or
    those of the failed container.
    """

    exit_code: int | None
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why a Job's pod has not started, in Kubernetes' words, and since when.

    `since`: the pod's creation by the API server's clock. The controller replaces it by its first
    observation of the wait, by the clock of `now`.
    """

    reason: BacktestReason
    detail: str
    since: float


@dataclass(frozen=True, slots=True)
class Run:
    """A Job. `ended_at` and `end_reason`: of its condition Complete or Failed (None: it runs).

    `end_noticed_at`: the controller's first observation of the end, by the clock of `now` (None: use
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
    """The operator's settings for backtests; empty: not set."""

    namespace: str
    image: str
    prometheus_url: str
    template: Mapping[str, Any]
    """A pod template that is merged over the operator's, as for an R1Inference."""
    defaults: Defaults | None = None
    """Defaults of R1Inferences, to count the accelerators of a replica."""
    prometheus_client: str = ""
    """The client configuration for Prometheus as JSON; its files are volumes of the template."""


@dataclass(frozen=True, slots=True)
class BacktestObservation:
    """All inputs of a plan for one R1Backtest."""

    backtest: R1Backtest
    site: BacktestSite
    inference: R1Inference | None = None
    run: Run | None = None
    report: BacktestReport | None = None
    waiting: Waiting | None = None
    """Why the pod has not started; None: it has, or there is no Job."""
    running_backtest: str | None = None
    """`namespace/name` of another R1Backtest whose Job runs."""
    lead_seconds: float | None = None
    """Measured lead time of a replica; None: not measured."""
    create_error: str | None = None
    """The API server's error at the creation of the Job."""
    create_error_temporary: bool = False
    """The same Job may be accepted later."""
    read_error: str | None = None
    """Why the Job could not be read; None: it was, or there is none."""


def read_run(job: Mapping[str, Any]) -> Run:
    """Reduce a Job object."""
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


def read_report(pod: Mapping[str, Any]) -> BacktestReport | None:
    """Return the exit of the pod's backtest; None while it runs."""
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
            detail = f"container {one.get('name')} exited with code {ended['exitCode']}: "
            other = BacktestReport(None, reason, (detail + message).rstrip(": "))
    if status.get("phase") != "Failed":
        return None
    return other or BacktestReport(
        None, status.get("reason") or "Failed", status.get("message") or ""
    )


def _statuses(status: Mapping[str, Any], kind: str) -> Sequence[Mapping[str, Any]]:
    return status.get("initContainerStatuses" if kind else "containerStatuses") or ()


def read_waiting(pod: Mapping[str, Any]) -> Waiting | None:
    """Return why the pod has not started; None where it has."""
    status = pod.get("status") or {}
    since = unix_seconds(pod["metadata"]["creationTimestamp"])
    if status.get("phase", "Pending") != "Pending":
        return None
    for one in (*_statuses(status, "init"), *_statuses(status, "")):
        waiting = (one.get("state") or {}).get("waiting") or {}
        reported = waiting.get("reason")
        if reported not in (None, "ContainerCreating", "PodInitializing"):
            reason = (
                BacktestReason.IMAGE_PULL_FAILED
                if reported in _PULLING
                else BacktestReason.CONTAINER_START_FAILED
            )
            detail = f"{reported}: {waiting.get('message', '')}".rstrip(": ")
            if one.get("name") not in (None, CONTAINER):
                detail = f"container {one['name']}: {detail}"
            return Waiting(reason, detail, since)
    for condition in status.get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            detail = f"{condition.get('reason', '')}: {condition.get('message', '')}".strip(": ")
            return Waiting(BacktestReason.UNSCHEDULABLE, detail, since)
    return Waiting(BacktestReason.POD_NOT_STARTED, "the kubelet is preparing the pod", since)


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


def waiting_without_pod(run: Run) -> Waiting:
    """Return the state of a Job without a pod."""
    return Waiting(BacktestReason.POD_NOT_CREATED, "the Job has created no pod", run.created_at)


def read_message(message: str) -> Mapping[str, Any]:
    """Return the short result of a backtest, or `{"error": ...}` with the text."""
    try:
        document = parse_json(message)
    except InvalidJson:
        document = None
    return document if isinstance(document, dict) else {"error": message.strip()}

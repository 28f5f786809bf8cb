"""Lifecycle of a backtest: the Job to create, then the status to write.

The status is computed from Job and pod at every reconcile, so a crash between two writes loses nothing.
A finished status stays as it is stored, because its Job is deleted after an hour.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from r1_operator.api.backtest.spec import autoscaling_hash
from r1_operator.api.names import BacktestCondition, BacktestPhase, BacktestReason
from r1_operator.api.v1 import R1Inference, unix_seconds
from r1_operator.plan.backtest.job import build_job
from r1_operator.plan.backtest.observed import (
    BacktestObservation,
    BacktestReport,
    Run,
    read_message,
)
from r1_operator.plan.problem import Unplannable
from r1_operator.plan.status.conditions import ConditionUpdate, Truth, rfc3339, with_times

logger = logging.getLogger(__name__)

_REQUEUE_SECONDS: Final = 30.0
_REPORT_SECONDS: Final = 30.0
"""Time after the end of the Job in which the pod's last state may still arrive."""
_WAITING_REQUEUE_SECONDS: Final = 10.0
START_TIMEOUT_SECONDS: Final = 600
"""Time from the pod's creation to its start: longer than node autoscalers take, because other backtests
are queued meanwhile."""
_BLOCKED_AFTER_SECONDS: Final = {
    BacktestReason.POD_NOT_STARTED: 60.0,
    BacktestReason.POD_NOT_CREATED: 20.0,
}
"""Usual time of these states; only then is the backtest reported as blocked."""
_LONGEST_MESSAGE: Final = 4096
_NOT_FOUND: Final = 3
_KILLED: Final = 137
FINAL: Final = (BacktestPhase.SUCCEEDED.value, BacktestPhase.FAILED.value)


@dataclass(frozen=True, slots=True)
class StartPlan:
    """The Job to create, or the reason why there is none to create now."""

    job: Mapping[str, Any] | None = None
    reason: BacktestReason = BacktestReason.RUNNING
    message: str = "The Job is being created."
    blocked: bool = False


@dataclass(frozen=True, slots=True)
class BacktestPlan:
    """The status of one R1Backtest, and what to delete."""

    status: Mapping[str, Any]
    delete: bool = False
    requeue_after: float | None = None
    delete_job: bool = False
    """the Job still runs, and its result is no longer used"""

    @property
    def finished(self) -> bool:
        """Whether the phase is final."""
        return self.status["phase"] in FINAL


def plan_start(observation: BacktestObservation) -> StartPlan:
    """Return the Job to create; none for a backtest that has, had or may have a Job."""
    phase = observation.backtest.status.get("phase")
    started = phase == BacktestPhase.RUNNING or phase in FINAL
    if started or observation.run is not None or observation.read_error is not None:
        return StartPlan()
    spec, site = observation.backtest.spec, observation.site
    resource = f"{observation.backtest.namespace}/{spec.inference_name}"
    if observation.inference is None:
        message = f"R1Inference {resource} does not exist: create it, or delete this R1Backtest."
        return StartPlan(None, BacktestReason.INFERENCE_NOT_FOUND, message)
    if observation.inference.spec.autoscaling is None:
        message = f"{resource} has no spec.autoscaling to test: set spec.autoscaling."
        return StartPlan(None, BacktestReason.NO_AUTOSCALING, message)
    if not site.prometheus_url:
        message = "The operator has no Prometheus URL: set the chart value prometheus.url."
        return StartPlan(None, BacktestReason.NO_PROMETHEUS, message)
    if not site.image:
        message = "The operator has no backtest image: set the chart value backtest.image."
        return StartPlan(None, BacktestReason.NO_IMAGE, message)
    if observation.running_backtest is not None:
        return StartPlan()
    try:
        return StartPlan(build_job(observation, observation.inference))
    except (
        Exception
    ) as error:  # a fault of the template or the operator: the status is still written
        message = f"The Job cannot be built: {error or type(error).__name__}"
        if not isinstance(error, Unplannable):
            logger.exception("%s: the Job cannot be built", observation.backtest.key)
        return StartPlan(None, BacktestReason.JOB_BUILD_FAILED, message, blocked=True)


def plan_backtest(observation: BacktestObservation, start: StartPlan, now: float) -> BacktestPlan:
    """Return the status of one R1Backtest and what to delete.

    `observation` has what became of the Job of `start`.
    """
    if observation.backtest.status.get("phase") in FINAL:
        return _finished(observation, now)
    if observation.run is not None:
        return _with_job(observation, observation.run, now)
    if observation.read_error is not None:
        return _unread(observation, observation.read_error, now)
    if observation.backtest.status.get("phase") == BacktestPhase.RUNNING:
        message = "The Job was deleted before it finished: create a new R1Backtest."
        return _failed(observation, now, now, BacktestReason.JOB_LOST, message, {})
    if observation.create_error is not None:
        passing = observation.create_error_temporary
        reason = BacktestReason.JOB_NOT_CREATED if passing else BacktestReason.JOB_REJECTED
        return _pending(observation, now, reason, observation.create_error, blocked=True)
    return _waiting(observation, start, now)


def _unread(observation: BacktestObservation, detail: str, now: float) -> BacktestPlan:
    """Return the stored status with the read error."""
    stored = observation.backtest.status
    others = [
        one for one in stored.get("conditions") or () if one["type"] != BacktestCondition.BLOCKED
    ]
    reason = BacktestReason.JOB_NOT_READ
    blocked = ConditionUpdate(
        BacktestCondition.BLOCKED, "True", reason, f"The Job cannot be read: {detail}"
    )
    new = with_times(
        [blocked], stored.get("conditions") or (), observation.backtest.generation, now
    )
    return BacktestPlan(
        {**stored, "conditions": [*others, *new]}, requeue_after=_WAITING_REQUEUE_SECONDS
    )


def _waiting(observation: BacktestObservation, start: StartPlan, now: float) -> BacktestPlan:
    if start.reason is BacktestReason.RUNNING and observation.running_backtest is not None:
        message = (
            f"Queued: {observation.running_backtest} is running, and backtests run one at a time."
        )
        return _pending(observation, now, BacktestReason.QUEUED, message)
    return _pending(observation, now, start.reason, start.message, blocked=start.blocked)


def _pending(
    observation: BacktestObservation,
    now: float,
    reason: BacktestReason,
    message: str,
    *,
    blocked: bool = False,
) -> BacktestPlan:
    verdict = (
        ConditionUpdate(BacktestCondition.BLOCKED, "True", reason, message) if blocked else None
    )
    status = _status(observation, now, BacktestPhase.PENDING, reason, message, {}, verdict)
    return BacktestPlan(status, requeue_after=_REQUEUE_SECONDS)


def plan_unreadable_backtest(
    before: Mapping[str, Any], generation: int, message: str, now: float
) -> dict[str, Any]:
    """Return the status of an R1Backtest with an invalid spec; a stored result stays."""
    reason, text = BacktestReason.INVALID_SPEC, f"The spec is invalid: {message}."
    updates = [
        ConditionUpdate(BacktestCondition.COMPLETE, "False", reason, text),
        ConditionUpdate(BacktestCondition.BLOCKED, "True", reason, text),
    ]
    return {
        "phase": BacktestPhase.PENDING.value,
        **before,
        "conditions": with_times(updates, before.get("conditions") or (), generation, now),
        "observedGeneration": generation,
    }


def _with_job(observation: BacktestObservation, run: Run, now: float) -> BacktestPlan:
    facts = {
        "startedAt": rfc3339(run.created_at),
        "autoscalingHash": run.autoscaling_hash,
        "startSeconds": run.start_seconds,
    }
    if run.ended_at is None:
        return _job_running(observation, run, now, facts)
    if run.end_reason == "DeadlineExceeded":
        reason = BacktestReason.DEADLINE_EXCEEDED
        return _failed(
            observation,
            now,
            run.ended_at,
            reason,
            run.end_message or "The Job exceeded its deadline.",
            facts,
        )
    if observation.report is None:
        noticed = run.ended_at if run.end_noticed_at is None else run.end_noticed_at
        if max(0.0, now - noticed) < _REPORT_SECONDS:
            message = f"Job {observation.site.namespace}/{run.name} finished; waiting for its pod's result."
            status = _status(
                observation, now, BacktestPhase.RUNNING, BacktestReason.RUNNING, message, facts
            )
            return BacktestPlan(status, requeue_after=2.0)
        message = run.end_message or "The pod was deleted with its result: create a new R1Backtest."
        return _failed(observation, now, run.ended_at, BacktestReason.JOB_LOST, message, facts)
    return _job_reported(observation, observation.report, now, run.ended_at, facts)


def _job_running(
    observation: BacktestObservation, run: Run, now: float, facts: Mapping[str, Any]
) -> BacktestPlan:
    where, waiting = f"Job {observation.site.namespace}/{run.name}", observation.waiting
    message, blocked = f"{where} is running.", None
    if waiting is not None:
        message = f"{where} is waiting: {waiting.detail}."
        waited = max(0.0, now - waiting.since)
        grace = _BLOCKED_AFTER_SECONDS.get(waiting.reason, 0.0)
        if waited >= START_TIMEOUT_SECONDS:
            message = (
                f"The Job did not start within {waited / 60:.0f} min and was deleted. {message}"
            )
            return replace(
                _failed(observation, now, now, waiting.reason, message, facts), delete_job=True
            )
        if waited >= grace:
            blocked = ConditionUpdate(
                BacktestCondition.BLOCKED,
                "True",
                waiting.reason,
                f"{message} The Job is deleted {START_TIMEOUT_SECONDS // 60} min after its pod was created, and the next "
                "backtest starts.",
            )
    status = _status(
        observation, now, BacktestPhase.RUNNING, BacktestReason.RUNNING, message, facts, blocked
    )
    return BacktestPlan(
        status, requeue_after=_REQUEUE_SECONDS if waiting is None else _WAITING_REQUEUE_SECONDS
    )


def _job_reported(
    observation: BacktestObservation,
    report: BacktestReport,
    now: float,
    ended_at: float,
    facts: Mapping[str, Any],
) -> BacktestPlan:
    parsed = read_message(report.message)
    if report.exit_code == 0 and _is_verdict(parsed.get("verdict")):
        verdict = parsed["verdict"]
        facts = {
            **facts,
            "finishedAt": rfc3339(ended_at),
            "verdict": verdict,
            "policies": parsed.get("policies") or [],
        }
        status = _status(
            observation,
            now,
            BacktestPhase.SUCCEEDED,
            BacktestReason.BACKTEST_COMPLETED,
            str(verdict["message"]),
            facts,
        )
        return BacktestPlan(status, requeue_after=_ttl_left(observation, ended_at, now))
    error = str(parsed.get("error") or "").strip()[:_LONGEST_MESSAGE]
    if report.exit_code is None:
        message = f"The pod failed ({report.reason}): {error or 'no message'}"
        return _failed(observation, now, ended_at, BacktestReason.RUN_FAILED, message, facts)
    if report.exit_code == 0:
        reason, detail = BacktestReason.NO_RESULT, "The backtest exited without a result."
    elif report.exit_code == _NOT_FOUND:
        reason, detail = BacktestReason.TOO_LITTLE_HISTORY, ""
    elif report.exit_code == _KILLED or report.reason == "OOMKilled":
        reason = BacktestReason.KILLED
        detail = f"Killed ({report.reason or 'signal 9'})"
    else:
        reason, detail = BacktestReason.RUN_FAILED, ""
    message = ": ".join(part for part in (detail, error) if part) or "No message."
    message = f"Exit code {report.exit_code}. {message}"
    return _failed(observation, now, ended_at, reason, message, facts)


def _is_verdict(found: Any) -> bool:
    return isinstance(found, dict) and {"finding", "message", "activation"} <= set(found)


def _failed(
    observation: BacktestObservation,
    now: float,
    ended_at: float,
    reason: BacktestReason,
    message: str,
    facts: Mapping[str, Any],
) -> BacktestPlan:
    known = {
        key: observation.backtest.status[key]
        for key in ("startedAt", "autoscalingHash", "startSeconds")
        if key in observation.backtest.status
    }
    facts = {**known, **facts, "finishedAt": rfc3339(ended_at)}
    status = _status(observation, now, BacktestPhase.FAILED, reason, message, facts)
    return BacktestPlan(status, requeue_after=_ttl_left(observation, ended_at, now))


def _finished(observation: BacktestObservation, now: float) -> BacktestPlan:
    """Return the stored status; only the condition Stale may change."""
    stored = observation.backtest.status
    others = [
        one for one in stored.get("conditions") or () if one["type"] != BacktestCondition.STALE
    ]
    stale = with_times(
        _stale(observation, stored.get("autoscalingHash", "")),
        stored.get("conditions") or (),
        observation.backtest.generation,
        now,
    )
    left = _ttl_left(observation, unix_seconds(stored["finishedAt"]), now)
    return BacktestPlan(
        {**stored, "conditions": [*others, *stale]},
        delete=left is not None and left <= 0,
        requeue_after=left,
        # A process may have ended between the timeout and the deletion of the Job.
        delete_job=observation.run is not None and observation.run.ended_at is None,
    )


def _ttl_left(observation: BacktestObservation, finished_at: float, now: float) -> float | None:
    """Seconds until the finished R1Backtest is deleted; None: never."""
    ttl = observation.backtest.spec.ttl_seconds_after_finished
    if ttl is None:
        return None
    age = max(0.0, now - int(finished_at))  # an end in the future counts as now
    return max(0.0, ttl - age)


def _status(
    observation: BacktestObservation,
    now: float,
    phase: BacktestPhase,
    reason: BacktestReason,
    message: str,
    facts: Mapping[str, Any],
    blocked: ConditionUpdate | None = None,
) -> dict[str, Any]:
    done: Truth = "True" if phase is BacktestPhase.SUCCEEDED else "False"
    conditions = [ConditionUpdate(BacktestCondition.COMPLETE, done, reason, message)]
    if phase is BacktestPhase.FAILED:
        conditions.append(ConditionUpdate(BacktestCondition.FAILED, "True", reason, message))
    if blocked is not None:
        conditions.append(blocked)
    conditions += _stale(observation, str(facts.get("autoscalingHash", "")))
    before = observation.backtest.status.get("conditions") or ()
    return {
        "conditions": with_times(conditions, before, observation.backtest.generation, now),
        "observedGeneration": observation.backtest.generation,
        "phase": phase.value,
        **facts,
    }


def _stale(observation: BacktestObservation, tested_hash: str) -> list[ConditionUpdate]:
    if not tested_hash or (
        observation.inference is not None
        and autoscaling_hash(observation.inference.spec.autoscaling) == tested_hash
    ):
        return []
    message = _why_stale(observation.backtest.spec.inference_name, observation.inference)
    reason = BacktestReason.AUTOSCALING_CHANGED
    return [ConditionUpdate(BacktestCondition.STALE, "True", reason, message)]


def _why_stale(name: str, inference: R1Inference | None) -> str:
    if inference is None:
        return f"R1Inference {name} no longer exists."
    return f"{name} has another spec.autoscaling than the tested one: create a new R1Backtest."

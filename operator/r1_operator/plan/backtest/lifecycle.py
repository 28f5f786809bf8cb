"""The course of a backtest: which Job to make, and what the status says of what is there.

The status is worked out anew from Job and pod at every look, so a crash between two writes costs
nothing. Only what is finished is kept as it is stored, for its Job goes after an hour.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from r1_operator.api.backtest import autoscaling_hash
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

_LOOK_SECONDS: Final = 30.0
_ANSWER_SECONDS: Final = 30.0
"""After its Job ended: for so long the pod's last state may still be on its way."""
_WAIT_SECONDS: Final = 10.0
GIVE_UP_SECONDS: Final = 600
"""After its pod was made: longer than node autoscalers take, and the others wait for it."""
_PATIENCE: Final = {BacktestReason.POD_NOT_STARTED: 60.0, BacktestReason.POD_NOT_CREATED: 20.0}
"""For so long it is on its way, and no news."""
_LONGEST_MESSAGE: Final = 4096
_NOT_FOUND: Final = 3
_KILLED: Final = 137
FINAL: Final = (BacktestPhase.SUCCEEDED.value, BacktestPhase.FAILED.value)


@dataclass(frozen=True, slots=True)
class BacktestPlan:
    """What to do: a Job to create, or the object itself to delete; and what its status is."""

    status: Mapping[str, Any]
    job: Mapping[str, Any] | None = None
    delete: bool = False
    look_again: float | None = None
    delete_job: bool = False
    """its Job goes on, and what it does is of no use any more"""

    @property
    def finished(self) -> bool:
        """Whether the phase is a final one."""
        return self.status["phase"] in FINAL


def plan_backtest(seen: BacktestObservation, now: float) -> BacktestPlan:
    """What to do about one R1Backtest."""
    if seen.backtest.status.get("phase") in FINAL:
        return _finished(seen, now)
    if seen.run is not None:
        return _followed(seen, seen.run, now)
    if seen.unread is not None:
        return _unread(seen, seen.unread, now)
    if seen.backtest.status.get("phase") == BacktestPhase.RUNNING:
        message = "Its Job was deleted before it was finished."
        return _failed(seen, now, now, BacktestReason.JOB_LOST, message, {})
    if seen.refusal is not None:
        passing = seen.refusal_may_pass
        reason = BacktestReason.JOB_NOT_CREATED if passing else BacktestReason.JOB_REJECTED
        return _pending(seen, now, reason, seen.refusal, blocked=True)
    return _waiting(seen, now)


def _unread(seen: BacktestObservation, words: str, now: float) -> BacktestPlan:
    """As it is stored, with why nothing more is known."""
    stored = seen.backtest.status
    kept = [
        one for one in stored.get("conditions") or () if one["type"] != BacktestCondition.BLOCKED
    ]
    reason = BacktestReason.JOB_NOT_READ
    blocked = ConditionUpdate(
        BacktestCondition.BLOCKED, "True", reason, f"Its Job cannot be read: {words}"
    )
    new = with_times([blocked], stored.get("conditions") or (), seen.backtest.generation, now)
    return BacktestPlan({**stored, "conditions": [*kept, *new]}, look_again=_WAIT_SECONDS)


def _waiting(seen: BacktestObservation, now: float) -> BacktestPlan:
    spec, site = seen.backtest.spec, seen.site
    resource = f"{seen.backtest.namespace}/{spec.inference_name}"
    if seen.inference is None:
        message = f"There is no R1Inference {resource}: create it, or delete this object."
        return _pending(seen, now, BacktestReason.INFERENCE_NOT_FOUND, message)
    if seen.inference.spec.autoscaling is None:
        message = f"{resource} has no spec.autoscaling: there is no policy to try."
        return _pending(seen, now, BacktestReason.NO_AUTOSCALING, message)
    if not site.prometheus_url:
        message = "The operator knows no Prometheus: set the chart's value prometheus.url."
        return _pending(seen, now, BacktestReason.NO_PROMETHEUS, message)
    if not site.image:
        message = "The operator knows no image for it: set the chart's value backtest.image."
        return _pending(seen, now, BacktestReason.NO_IMAGE, message)
    if seen.busy_with is not None:
        message = f"{seen.busy_with} runs; backtests run one at a time."
        return _pending(seen, now, BacktestReason.QUEUED, message)
    try:
        job = build_job(seen, seen.inference)
    except Exception as error:  # a fault of the template or of ours: the status is written
        message = f"The Job cannot be built: {error or type(error).__name__}"
        if not isinstance(error, Unplannable):
            logger.exception("%s: the Job cannot be built", seen.backtest.key)
        return _pending(seen, now, BacktestReason.JOB_BUILD_FAILED, message, blocked=True)
    return BacktestPlan(
        _status(
            seen, now, BacktestPhase.PENDING, BacktestReason.RUNNING, "Its Job is being made.", {}
        ),
        job=job,
        look_again=_LOOK_SECONDS,
    )


def _pending(
    seen: BacktestObservation,
    now: float,
    reason: BacktestReason,
    message: str,
    *,
    blocked: bool = False,
) -> BacktestPlan:
    verdict = (
        ConditionUpdate(BacktestCondition.BLOCKED, "True", reason, message) if blocked else None
    )
    status = _status(seen, now, BacktestPhase.PENDING, reason, message, {}, verdict)
    return BacktestPlan(status, look_again=_LOOK_SECONDS)


def plan_unreadable_backtest(
    before: Mapping[str, Any], generation: int, message: str, now: float
) -> dict[str, Any]:
    """The status of an object whose spec cannot be read; what is stored of a run stays."""
    reason, text = BacktestReason.INVALID_SPEC, f"The spec cannot be read: {message}."
    verdicts = [
        ConditionUpdate(BacktestCondition.COMPLETE, "False", reason, text),
        ConditionUpdate(BacktestCondition.BLOCKED, "True", reason, text),
    ]
    return {
        "phase": BacktestPhase.PENDING.value,
        **before,
        "conditions": with_times(verdicts, before.get("conditions") or (), generation, now),
        "observedGeneration": generation,
    }


def _followed(seen: BacktestObservation, run: Run, now: float) -> BacktestPlan:
    facts = {
        "startedAt": rfc3339(run.created_at),
        "autoscalingHash": run.autoscaling_hash,
        "startSeconds": run.start_seconds,
    }
    if run.ended_at is None:
        return _going_on(seen, run, now, facts)
    if run.end_reason == "DeadlineExceeded":
        reason = BacktestReason.DEADLINE_EXCEEDED
        return _failed(
            seen, now, run.ended_at, reason, run.end_message or "It took too long.", facts
        )
    if seen.answer is None:
        noticed = run.ended_at if run.end_noticed_at is None else run.end_noticed_at
        if max(0.0, now - noticed) < _ANSWER_SECONDS:
            message = (
                f"Job {seen.site.namespace}/{run.name} has ended; its pod's answer is awaited."
            )
            status = _status(
                seen, now, BacktestPhase.RUNNING, BacktestReason.RUNNING, message, facts
            )
            return BacktestPlan(status, look_again=2.0)
        message = run.end_message or "Its pod is gone, and with it the answer."
        return _failed(seen, now, run.ended_at, BacktestReason.JOB_LOST, message, facts)
    return _answered(seen, seen.answer, now, run.ended_at, facts)


def _going_on(
    seen: BacktestObservation, run: Run, now: float, facts: Mapping[str, Any]
) -> BacktestPlan:
    where, waiting = f"Job {seen.site.namespace}/{run.name}", seen.waiting
    message, blocked = f"{where} runs.", None
    if waiting is not None:
        message = f"{where} waits: {waiting.words}."
        waited = max(0.0, now - waiting.since)
        patience = _PATIENCE.get(waiting.reason, 0.0)
        if waited >= GIVE_UP_SECONDS:
            told = f"Given up after {waited / 60:.0f} minutes. {message}"
            return replace(_failed(seen, now, now, waiting.reason, told, facts), delete_job=True)
        if waited >= patience:
            blocked = ConditionUpdate(
                BacktestCondition.BLOCKED,
                "True",
                waiting.reason,
                f"{message} It is given up {GIVE_UP_SECONDS // 60} minutes after its pod was made, "
                "and the next one has its turn.",
            )
    status = _status(
        seen, now, BacktestPhase.RUNNING, BacktestReason.RUNNING, message, facts, blocked
    )
    return BacktestPlan(status, look_again=_LOOK_SECONDS if waiting is None else _WAIT_SECONDS)


def _answered(
    seen: BacktestObservation,
    answer: BacktestReport,
    now: float,
    ended_at: float,
    facts: Mapping[str, Any],
) -> BacktestPlan:
    said = read_message(answer.message)
    if answer.exit_code == 0 and _is_verdict(said.get("verdict")):
        verdict = said["verdict"]
        facts = {
            **facts,
            "finishedAt": rfc3339(ended_at),
            "verdict": verdict,
            "policies": said.get("policies") or [],
        }
        status = _status(
            seen,
            now,
            BacktestPhase.SUCCEEDED,
            BacktestReason.BACKTEST_COMPLETED,
            str(verdict["message"]),
            facts,
        )
        return BacktestPlan(status, look_again=_left(seen, ended_at, now))
    error = str(said.get("error") or "").strip()[:_LONGEST_MESSAGE]
    if answer.exit_code is None:
        message = f"Its pod failed ({answer.reason}): {error or 'there is no message'}"
        return _failed(seen, now, ended_at, BacktestReason.RUN_FAILED, message, facts)
    if answer.exit_code == 0:
        reason, words = BacktestReason.NO_RESULT, "It ended well and left no verdict."
    elif answer.exit_code == _NOT_FOUND:
        reason, words = BacktestReason.TOO_LITTLE_HISTORY, ""
    elif answer.exit_code == _KILLED or answer.reason == "OOMKilled":
        reason = BacktestReason.KILLED
        words = f"Killed ({answer.reason or 'signal 9'})"
    else:
        reason, words = BacktestReason.RUN_FAILED, ""
    message = ": ".join(part for part in (words, error) if part) or "It left no message."
    told = f"Exit code {answer.exit_code}. {message}"
    return _failed(seen, now, ended_at, reason, told, facts)


def _is_verdict(found: Any) -> bool:
    return isinstance(found, dict) and {"finding", "message", "activation"} <= set(found)


def _failed(
    seen: BacktestObservation,
    now: float,
    ended_at: float,
    reason: BacktestReason,
    message: str,
    facts: Mapping[str, Any],
) -> BacktestPlan:
    known = {
        key: seen.backtest.status[key]
        for key in ("startedAt", "autoscalingHash", "startSeconds")
        if key in seen.backtest.status
    }
    facts = {**known, **facts, "finishedAt": rfc3339(ended_at)}
    status = _status(seen, now, BacktestPhase.FAILED, reason, message, facts)
    return BacktestPlan(status, look_again=_left(seen, ended_at, now))


def _finished(seen: BacktestObservation, now: float) -> BacktestPlan:
    """As it is stored; what may change is whether the resource still scales as was tried."""
    stored = seen.backtest.status
    kept = [one for one in stored.get("conditions") or () if one["type"] != BacktestCondition.STALE]
    stale = with_times(
        _stale(seen, stored.get("autoscalingHash", "")),
        stored.get("conditions") or (),
        seen.backtest.generation,
        now,
    )
    left = _left(seen, unix_seconds(stored["finishedAt"]), now)
    return BacktestPlan(
        {**stored, "conditions": [*kept, *stale]},
        delete=left is not None and left <= 0,
        look_again=left,
        # It may have been given up by a process that ended before it could delete the Job.
        delete_job=seen.run is not None and seen.run.ended_at is None,
    )


def _left(seen: BacktestObservation, finished_at: float, now: float) -> float | None:
    """Seconds that the finished object is kept; None: for ever."""
    ttl = seen.backtest.spec.ttl_seconds_after_finished
    if ttl is None:
        return None
    age = max(0.0, now - int(finished_at))  # an end in the future is one of this moment
    return max(0.0, ttl - age)


def _status(
    seen: BacktestObservation,
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
    conditions += _stale(seen, str(facts.get("autoscalingHash", "")))
    before = seen.backtest.status.get("conditions") or ()
    return {
        "conditions": with_times(conditions, before, seen.backtest.generation, now),
        "observedGeneration": seen.backtest.generation,
        "phase": phase.value,
        **facts,
    }


def _stale(seen: BacktestObservation, tried: str) -> list[ConditionUpdate]:
    if not tried or (
        seen.inference is not None and autoscaling_hash(seen.inference.spec.autoscaling) == tried
    ):
        return []
    message = _why_stale(seen.backtest.spec.inference_name, seen.inference)
    reason = BacktestReason.AUTOSCALING_CHANGED
    return [ConditionUpdate(BacktestCondition.STALE, "True", reason, message)]


def _why_stale(name: str, inference: R1Inference | None) -> str:
    if inference is None:
        return f"There is no R1Inference {name} any more."
    return f"{name} scales by another spec.autoscaling than was tried: create a new R1Backtest."

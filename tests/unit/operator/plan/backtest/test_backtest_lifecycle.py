"""Lifecycle of an R1Backtest from Pending to its result, with explicit time."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from r1_evaluation.backtest.policy_under_test import policy_of_resource
from r1_operator.api.backtest.spec import (
    BacktestSpec,
    Policy,
    R1Backtest,
    autoscaling_hash,
    parse_backtest,
)
from r1_operator.api.names import BacktestReason
from r1_operator.api.v1 import R1Inference, parse
from r1_operator.plan.backtest.events import events_of
from r1_operator.plan.backtest.job import build_job, job_name
from r1_operator.plan.backtest.lifecycle import (
    START_TIMEOUT_SECONDS,
    BacktestPlan,
    plan_backtest,
    plan_start,
)
from r1_operator.plan.backtest.observed import (
    BacktestObservation,
    BacktestReport,
    BacktestSite,
    Run,
    Waiting,
    read_report,
    read_run,
    read_waiting,
)
from r1_operator.plan.status.conditions import rfc3339

NOW = 1_700_000_000.0
SITE = BacktestSite("r1-system", "r1-backtest:1", "http://prometheus:9090", {})
VERDICT = {"finding": "Cheaper", "message": "Ours costs 4.1% less.", "activation": "Never"}
ROWS = [{"name": "ours", "costPerMille": 1190, "overloadPerMille": 4}]
TOLD = json.dumps({"verdict": VERDICT, "policies": ROWS})


def inference(maximum: int = 10, **more: Any) -> R1Inference:
    metrics = [{"type": "RequestsPerSecond", "target": 8}]
    autoscaling = {"minReplicas": 2, "maxReplicas": maximum, "metrics": metrics}
    return parse(
        {
            "apiVersion": "deepseek.ai/v1",
            "kind": "R1Inference",
            "metadata": {"name": "production-r1", "namespace": "team"},
            "spec": {"autoscaling": autoscaling, **more},
        }
    )


def backtest(**spec: Any) -> R1Backtest:
    return R1Backtest("november", "team", BacktestSpec("production-r1", **spec), uid="u1", generation=1)  # fmt: skip


def observed_run(**more: Any) -> BacktestObservation:
    return BacktestObservation(
        **{"backtest": backtest(), "site": SITE, "inference": inference(), **more}
    )


def run(**more: Any) -> Run:
    tried = autoscaling_hash(inference().spec.autoscaling)
    return replace(Run("r1bt-u1", "j1", NOW, tried, 120), **more)


def after(planned: BacktestPlan, before: BacktestObservation, **more: Any) -> BacktestObservation:
    """The observation after the plan's status is stored."""
    stored = replace(before.backtest, status=planned.status)
    return replace(before, backtest=stored, **more)


def condition(planned: BacktestPlan, kind: str) -> dict[str, Any] | None:
    return next((one for one in planned.status["conditions"] if one["type"] == kind), None)


def planned_backtest(observation: BacktestObservation, now: float) -> BacktestPlan:
    """The plan where the Job that `plan_start` returns is not created yet."""
    return plan_backtest(observation, plan_start(observation), now)


def waits(planned: BacktestPlan) -> tuple[str, str]:
    complete = condition(planned, "Complete")
    assert complete is not None
    assert complete["status"] == "False"
    assert planned.status["phase"] == "Pending"
    assert planned.requeue_after is not None, "what it waits for may come without an event"
    return complete["reason"], complete["message"]


def test_a_pending_backtest_reports_the_cause_and_the_remedy() -> None:
    reason, message = waits(planned_backtest(observed_run(inference=None), NOW))
    assert reason == "InferenceNotFound"
    assert "team/production-r1" in message
    bare = replace(inference(), spec=replace(inference().spec, autoscaling=None))
    assert waits(planned_backtest(observed_run(inference=bare), NOW))[0] == "NoAutoscaling"
    reason, message = waits(
        planned_backtest(observed_run(site=replace(SITE, prometheus_url="")), NOW)
    )
    assert reason == "NoPrometheus"
    assert "prometheus.url" in message
    reason, message = waits(planned_backtest(observed_run(site=replace(SITE, image="")), NOW))
    assert reason == "NoImage"
    assert "backtest.image" in message
    reason, message = waits(planned_backtest(observed_run(running_backtest="other/earlier"), NOW))
    assert reason == "Queued"
    assert "other/earlier" in message
    reason, message = waits(planned_backtest(observed_run(create_error="exceeded quota"), NOW))
    assert (reason, message) == ("JobRejected", "exceeded quota")


def test_its_turn_makes_the_job() -> None:
    job = plan_start(observed_run()).job
    assert job is not None
    assert job["metadata"]["name"] == "r1bt-u1"
    assert job["metadata"]["namespace"] == "r1-system"
    assert plan_start(observed_run(run=run())).job is None
    running = planned_backtest(observed_run(run=run()), NOW + 5)
    assert running.status["phase"] == "Running"
    assert running.status["startedAt"] == rfc3339(NOW)
    assert running.status["startSeconds"] == 120


NO_IMAGE = Waiting(BacktestReason.IMAGE_PULL_FAILED, "ImagePullBackOff: no such image", NOW)


def test_a_pod_that_cannot_start_is_a_condition_at_once_and_given_up_in_the_end() -> None:
    stuck = observed_run(run=run(), waiting=NO_IMAGE)
    planned = planned_backtest(stuck, NOW + 5)
    assert planned.status["phase"] == "Running"
    blocked = condition(planned, "Blocked")
    assert blocked is not None
    assert (blocked["status"], blocked["reason"]) == ("True", "ImagePullFailed")
    assert "no such image" in blocked["message"]
    assert "is deleted 10 min after" in blocked["message"]
    assert planned.requeue_after is not None
    assert planned.requeue_after <= 30, "the next look is not far"
    assert not planned.delete_job
    mended = planned_backtest(after(planned, stuck, waiting=None), NOW + 60)
    assert condition(mended, "Blocked") is None
    late = planned_backtest(after(planned, stuck), NOW + START_TIMEOUT_SECONDS)
    assert late.status["phase"] == "Failed"
    assert late.delete_job, "it must not begin once nobody waits for it"
    failed = condition(late, "Failed")
    assert failed is not None
    assert failed["reason"] == "ImagePullFailed"
    assert "did not start within 10 min" in failed["message"]
    assert condition(late, "Blocked") is None
    crashed = planned_backtest(after(late, stuck), NOW + START_TIMEOUT_SECONDS + 60)
    assert crashed.delete_job, "a process that ended before it deleted the Job does it now"
    gone = planned_backtest(
        after(late, stuck, run=None, waiting=None), NOW + START_TIMEOUT_SECONDS + 60
    )
    assert not gone.delete_job


@pytest.mark.parametrize(
    ("reason", "patience"),
    [
        (BacktestReason.UNSCHEDULABLE, 0),
        (BacktestReason.CONTAINER_START_FAILED, 0),
        (BacktestReason.POD_NOT_CREATED, 20),
        (BacktestReason.POD_NOT_STARTED, 60),
    ],
)
def test_a_pod_that_is_starting_is_not_reported_as_blocked(
    reason: BacktestReason, patience: float
) -> None:
    waiting = observed_run(run=run(), waiting=Waiting(reason, "Words", NOW))
    if patience:
        early = planned_backtest(waiting, NOW + patience - 1)
        assert condition(early, "Blocked") is None
        complete = condition(early, "Complete")
        assert complete is not None
        assert "is waiting: Words" in complete["message"]
    assert condition(planned_backtest(waiting, NOW + patience), "Blocked") is not None


def test_events_say_what_the_stored_status_did_not() -> None:
    first = planned_backtest(observed_run(run=run()), NOW)
    (started,) = events_of({}, first.status)
    assert (started.reason, started.warning) == ("BacktestStarted", False)
    assert events_of(first.status, first.status) == ()
    stuck = planned_backtest(after(first, observed_run(run=run(), waiting=NO_IMAGE)), NOW + 5)
    (blocked,) = events_of(first.status, stuck.status)
    assert (blocked.reason, blocked.warning) == ("BacktestBlocked", True)
    assert blocked.note.startswith("ImagePullFailed: ")
    assert events_of(stuck.status, stuck.status) == ()
    ended = observed_run(run=run(ended_at=NOW + 90), report=BacktestReport(0, "Completed", TOLD))
    (done,) = events_of(stuck.status, planned_backtest(ended, NOW + 91).status)
    assert (done.reason, done.warning, done.note) == (
        "BacktestSucceeded",
        False,
        VERDICT["message"],
    )
    broken = observed_run(run=run(ended_at=NOW + 90), report=BacktestReport(137, "OOMKilled", ""))
    (failed,) = events_of(stuck.status, planned_backtest(broken, NOW + 91).status)
    assert (failed.reason, failed.warning) == ("BacktestFailed", True)
    assert failed.note.startswith("Killed: ")


def test_a_verdict_ends_it_well_and_stays() -> None:
    ended = observed_run(run=run(ended_at=NOW + 90), report=BacktestReport(0, "Completed", TOLD))
    planned = planned_backtest(ended, NOW + 91)
    assert planned.finished
    assert planned.status["phase"] == "Succeeded"
    assert planned.status["verdict"] == VERDICT
    assert planned.status["policies"] == ROWS
    assert planned.status["finishedAt"] == rfc3339(NOW + 90)
    complete = condition(planned, "Complete")
    assert complete is not None
    assert (complete["status"], complete["message"]) == ("True", VERDICT["message"])
    assert planned.requeue_after is None, "nothing more will happen by itself"
    an_hour_later = after(planned, ended, run=None, report=None)
    assert planned_backtest(an_hour_later, NOW + 4000).status == planned.status


@pytest.mark.parametrize(
    ("answer", "reason", "expected_message"),
    [
        (
            BacktestReport(3, "Error", '{"error": "only 5 minutes of history"}'),
            "TooLittleHistory",
            "only 5",
        ),
        (
            BacktestReport(1, "Error", '{"error": "Prometheus does not answer"}'),
            "RunFailed",
            "answer",
        ),
        (BacktestReport(1, "Error", "Traceback ...\nValueError: x"), "RunFailed", "ValueError: x"),
        (BacktestReport(137, "OOMKilled", ""), "Killed", "OOMKilled"),
        (BacktestReport(137, "Error", ""), "Killed", "Exit code 137"),
        (BacktestReport(2, "Error", ""), "RunFailed", "No message"),
        (BacktestReport(0, "Completed", "what is this"), "NoResult", "what is this"),
        (
            BacktestReport(0, "Completed", '{"verdict": {"finding": "Cheaper"}}'),
            "NoResult",
            "without a result",
        ),
        (BacktestReport(0, "Completed", "[]"), "NoResult", "without a result"),
    ],
)
def test_a_run_without_a_verdict_fails_with_its_reason(
    answer: BacktestReport, reason: str, expected_message: str
) -> None:
    planned = planned_backtest(observed_run(run=run(ended_at=NOW + 90), report=answer), NOW + 91)
    assert planned.status["phase"] == "Failed"
    assert "verdict" not in planned.status
    failed = condition(planned, "Failed")
    assert failed is not None
    assert failed["reason"] == reason
    assert expected_message in failed["message"]
    assert planned.status["autoscalingHash"]


def test_a_deadline_leaves_no_pod_to_ask() -> None:
    late = run(ended_at=NOW + 3600, end_reason="DeadlineExceeded", end_message="Job was active ...")
    planned = planned_backtest(observed_run(run=late), NOW + 3601)
    failed = condition(planned, "Failed")
    assert failed is not None
    assert failed["reason"] == "DeadlineExceeded"


def test_the_pods_last_word_is_awaited_for_half_a_minute() -> None:
    ended = observed_run(run=run(ended_at=NOW + 90))
    first = planned_backtest(ended, NOW + 91)
    assert first.status["phase"] == "Running"
    assert first.requeue_after == 2.0
    failed = condition(planned_backtest(ended, NOW + 121), "Failed")
    assert failed is not None
    assert failed["reason"] == "JobLost"


def test_a_deleted_job_is_not_created_again() -> None:
    running = observed_run(run=run())
    gone = after(planned_backtest(running, NOW), running, run=None)
    planned = planned_backtest(gone, NOW + 60)
    assert plan_start(gone).job is None
    assert planned.status["phase"] == "Failed"
    assert planned.status["startedAt"] == rfc3339(NOW)


def test_another_autoscaling_makes_it_stale_and_the_same_one_again_does_not() -> None:
    ended = observed_run(run=run(ended_at=NOW + 90), report=BacktestReport(0, "Completed", TOLD))
    done = after(planned_backtest(ended, NOW + 91), ended, run=None, report=None)
    changed = planned_backtest(replace(done, inference=inference(maximum=20)), NOW + 500)
    stale = condition(changed, "Stale")
    assert stale is not None
    assert (stale["status"], stale["reason"]) == ("True", "AutoscalingChanged")
    assert stale["lastTransitionTime"] == rfc3339(NOW + 500)
    assert changed.status["verdict"] == VERDICT, "it stays evidence about what was tried"
    assert condition(planned_backtest(replace(done, inference=None), NOW + 500), "Stale")
    back = planned_backtest(after(changed, done), NOW + 600)
    assert condition(back, "Stale") is None
    again = planned_backtest(after(changed, done, inference=inference(maximum=20)), NOW + 700)
    stale = condition(again, "Stale")
    assert stale is not None
    assert stale["lastTransitionTime"] == rfc3339(NOW + 500)


def test_only_the_autoscaling_counts_for_that() -> None:
    assert autoscaling_hash(inference().spec.autoscaling) == autoscaling_hash(
        inference(replicas=3).spec.autoscaling
    )


def test_a_finished_object_goes_when_its_time_is_over() -> None:
    spec_of = backtest(ttl_seconds_after_finished=600)
    ended = observed_run(
        backtest=spec_of, run=run(ended_at=NOW), report=BacktestReport(0, "Completed", TOLD)
    )
    done = planned_backtest(ended, NOW + 1)
    assert done.requeue_after == pytest.approx(599)
    assert not planned_backtest(after(done, ended), NOW + 599).delete
    assert planned_backtest(after(done, ended), NOW + 600).delete


def test_the_start_up_time_is_configured_measured_or_assumed() -> None:
    def start(given: BacktestObservation) -> str:
        job = plan_start(given).job
        assert job is not None
        (container,) = job["spec"]["template"]["spec"]["containers"]
        return str(next(arg for arg in container["args"] if arg.startswith("--start")))

    assert start(observed_run()) == "--start=120s"
    assert start(observed_run(lead_seconds=44.6)) == "--start=45s"
    assert (
        start(observed_run(backtest=backtest(start_seconds=300), lead_seconds=44.6))
        == "--start=300s"
    )


def test_the_pod_asks_for_nothing_that_it_does_not_need() -> None:
    spec_of = backtest(policies=(Policy.ORACLE,), since_seconds=345_600)
    job = build_job(observed_run(backtest=spec_of), inference())
    assert job["spec"]["backoffLimit"] == 0
    assert job["spec"]["activeDeadlineSeconds"] == 3600
    assert job["spec"]["ttlSecondsAfterFinished"] == 3600
    pod = job["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    (container,) = pod["containers"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}
    assert "--policies=ours,oracle" in container["args"]
    assert "--since=345600s" in container["args"]
    assert {"name": "OMP_NUM_THREADS", "value": "1"} in container["env"]
    assert len(job_name(spec_of)) <= 63


def test_the_resource_rides_along_as_it_is_tried() -> None:
    mine = parse(
        {
            "apiVersion": "deepseek.ai/v1",
            "kind": "R1Inference",
            "metadata": {"name": "production-r1", "namespace": "team"},
            "spec": {
                "autoscaling": {
                    "maxReplicas": 10,
                    "metrics": [{"type": "RequestsPerSecond", "target": 8}],
                    "budget": {"gpus": 8},
                },
                "runtime": {"maxConcurrentSequences": 16},
                "resources": {"limits": {"nvidia.com/gpu": 2}},
                "template": {"spec": {"nodeSelector": {"pool": "a"}}},
            },
        }
    )
    job = build_job(observed_run(), mine)
    text = job["spec"]["template"]["metadata"]["annotations"]["deepseek.ai/backtest-target"]
    assert policy_of_resource(parse(json.loads(text))) == policy_of_resource(mine)
    assert "nodeSelector" not in text, "where replicas run does not matter to a replay"
    assert job["metadata"]["annotations"]["deepseek.ai/autoscaling-hash"] == autoscaling_hash(
        mine.spec.autoscaling
    )


CREATED = {"creationTimestamp": rfc3339(NOW)}


def waiting_of(status: dict[str, Any]) -> BacktestReason | None:
    waiting = read_waiting({"metadata": CREATED, "status": status})
    return None if waiting is None else waiting.reason


def test_jobs_and_pods_are_read_as_the_api_server_writes_them() -> None:
    metadata = {
        "name": "r1bt-u1",
        "uid": "j1",
        "creationTimestamp": rfc3339(NOW),
        "annotations": {"deepseek.ai/autoscaling-hash": "ab", "deepseek.ai/start-seconds": "120"},
    }
    assert read_run({"metadata": metadata}) == Run("r1bt-u1", "j1", NOW, "ab", 120)
    conditions = [
        {"type": "FailureTarget", "status": "True", "lastTransitionTime": rfc3339(NOW)},
        {
            "type": "Failed",
            "status": "True",
            "lastTransitionTime": rfc3339(NOW + 9),
            "reason": "BackoffLimitExceeded",
            "message": "Job has reached ...",
        },
    ]
    ended = read_run({"metadata": metadata, "status": {"conditions": conditions}})
    assert (ended.ended_at, ended.end_reason) == (NOW + 9, "BackoffLimitExceeded")
    state = {"terminated": {"exitCode": 1, "reason": "Error", "message": "x"}}
    assert read_report({"status": {"containerStatuses": [{"state": state}]}}) == BacktestReport(
        1, "Error", "x"
    )
    assert read_report({}) is None
    creating = {"waiting": {"reason": "ContainerCreating"}}
    assert (
        waiting_of({"containerStatuses": [{"state": creating}]}) == BacktestReason.POD_NOT_STARTED
    )
    assert waiting_of({"containerStatuses": [{"state": creating}], "phase": "Running"}) is None
    assert waiting_of({"phase": "Succeeded"}) is None
    no_image = {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}
    assert (
        waiting_of({"containerStatuses": [{"state": no_image}]}) == BacktestReason.IMAGE_PULL_FAILED
    )
    no_key = {"waiting": {"reason": "CreateContainerConfigError", "message": "no secret"}}
    assert (
        waiting_of({"containerStatuses": [{"state": no_key}]})
        == BacktestReason.CONTAINER_START_FAILED
    )
    unplaced = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                 "message": "0/1 nodes"}]  # fmt: skip
    pod = {"metadata": CREATED, "status": {"conditions": unplaced}}
    assert read_waiting(pod) == Waiting(
        BacktestReason.UNSCHEDULABLE, "Unschedulable: 0/1 nodes", NOW
    )


def test_the_result_is_that_of_the_container_backtest_and_not_of_a_sidecar() -> None:
    def ended(name: str, code: int, message: str) -> dict[str, Any]:
        state = {"terminated": {"exitCode": code, "reason": "Error", "message": message}}
        return {"name": name, "state": state}

    both = [ended("agent", 1, "proxy"), ended("backtest", 0, "{}")]
    assert read_report({"status": {"containerStatuses": both}}) == BacktestReport(0, "Error", "{}")
    assert read_report({"status": {"containerStatuses": both[:1]}}) is None
    init = {"phase": "Failed", "initContainerStatuses": [ended("fetch", 7, "no token")]}
    parsed_report = read_report({"status": init})
    assert parsed_report == BacktestReport(
        None, "Error", "container fetch exited with code 7: no token"
    )
    evicted = {"phase": "Failed", "reason": "Evicted", "message": "The node was low on memory."}
    assert read_report({"status": evicted}) == BacktestReport(None, "Evicted", evicted["message"])
    answer = BacktestReport(None, "Evicted", evicted["message"])
    planned = planned_backtest(observed_run(run=run(ended_at=NOW), report=answer), NOW)
    assert (
        "failed (Evicted): The node was low on memory."
        in planned.status["conditions"][0]["message"]
    )


def test_a_container_that_blocks_the_pod_is_named() -> None:
    no_image = {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}
    status = {"initContainerStatuses": [{"name": "fetch", "state": no_image}]}
    waiting = read_waiting({"metadata": CREATED, "status": status})
    assert waiting is not None
    assert waiting.detail == "container fetch: ErrImagePull: no such image"


def test_an_object_is_read_with_its_defaults() -> None:
    parsed = parse_backtest(
        {
            "apiVersion": "deepseek.ai/v1",
            "kind": "R1Backtest",
            "metadata": {"name": "november", "namespace": "team", "uid": "u1"},
            "spec": {"inferenceName": "production-r1"},
        }
    )
    assert parsed.spec == BacktestSpec("production-r1")
    assert parsed.key == "team/november"

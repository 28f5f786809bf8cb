"""R1Backtests on a real API server: the test plays Job controller, kubelet and backtest."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from r1_bench.operator_scale.testbed import (
    QUICK,
    connect,
    make_namespace,
    operating,
    resource,
    until,
)
from r1_operator.kube.client import Api
from r1_operator.kube.kinds import EVENT, JOB, POD, R1BACKTEST, R1INFERENCE, Json, Key
from r1_operator.plan.backtest import lifecycle
from r1_operator.plan.status.conditions import rfc3339
from r1_operator.settings import OperatorSettings

pytestmark = pytest.mark.apiserver

VERDICT = {"finding": "Cheaper", "message": "Ours costs 4.1% less.", "activation": "Never"}
TOLD = {
    "verdict": VERDICT,
    "policies": [{"name": "ours", "costPerMille": 1190, "overloadPerMille": 4}],
}
AUTOSCALING: Json = {
    "minReplicas": 2,
    "maxReplicas": 10,
    "metrics": [{"type": "RequestsPerSecond", "target": 8}],
}


@pytest.fixture
async def settings(api: Api, namespace: str) -> OperatorSettings:
    """An operator of this test's namespace, at home in another one."""
    home = f"{namespace}-home"
    await make_namespace(api, home)
    return replace(
        QUICK,
        namespaces=(namespace,),
        own_namespace=home,
        prometheus_url="http://127.0.0.1:9",
        backtest_image="r1-backtest:1",
    )


async def ask(api: Api, key: Key, **spec: Any) -> Json:
    manifest = {
        "apiVersion": R1BACKTEST.api_version,
        "kind": R1BACKTEST.name,
        "metadata": {"name": key.name},
        "spec": {"inferenceName": "production-r1", **spec},
    }
    return await api.create(R1BACKTEST, key.namespace, manifest)


async def serve(api: Api, namespace: str) -> None:
    manifest = resource("production-r1", namespace, autoscaling=AUTOSCALING)
    await api.create(R1INFERENCE, namespace, manifest)


def phase_is(api: Api, key: Key, phase: str, reason: str | None = None) -> Any:
    async def check() -> Json | None:
        stored = await api.get(R1BACKTEST, *key)
        status = (stored or {}).get("status") or {}
        conditions = {one["type"]: one for one in status.get("conditions") or ()}
        good = status.get("phase") == phase
        if good and reason in (None, conditions["Complete"]["reason"]):
            return dict(status)
        return None

    return check


async def jobs(api: Api, home: str) -> list[Json]:
    return [job async for page in api.list_pages(JOB, home) for job in page["items"]]


def a_job(api: Api, home: str) -> Any:
    async def check() -> Json | None:
        stored = await jobs(api, home)
        return stored[0] if stored else None

    return check


def writes(own: Api) -> list[str]:
    """The paths of an operator's writes that are about backtests."""
    return [one.path for one in own.log.recent if one.is_write and "r1backtests" in one.path]


async def make_pod(api: Api, job: Json, status: Json) -> None:
    """Make the Job's pod, in a state that a kubelet or the scheduler would write."""
    home, name = job["metadata"]["namespace"], job["metadata"]["name"]
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": job["metadata"]["uid"]}
    template = job["spec"]["template"]
    metadata = {**template["metadata"], "name": f"{name}-x", "ownerReferences": [owner]}
    manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
    pod = await api.create(POD, home, manifest)
    pod["status"] = status
    await api.request("PUT", POD.path(home, pod["metadata"]["name"], "status"), body=pod)


async def events(api: Api, key: Key) -> list[tuple[str, str]]:
    """Kind and reason of what was told about an R1Backtest."""
    return [
        (event["regarding"]["kind"], event["reason"])
        async for page in api.list_pages(EVENT, key.namespace)
        for event in page["items"]
        if event["regarding"]["name"] == key.name
    ]


async def play_to_the_end(api: Api, job: Json, exit_code: int, message: str) -> None:
    """Make the Job's pod, end it with a termination message, and say of the Job that it ended."""
    reason = "Completed" if exit_code == 0 else "Error"
    state = {"exitCode": exit_code, "reason": reason, "message": message}
    status = {
        "phase": "Succeeded" if exit_code == 0 else "Failed",
        "containerStatuses": [
            {
                "name": "backtest",
                "image": "i",
                "imageID": "i",
                "ready": False,
                "restartCount": 0,
                "state": {"terminated": state},
            }
        ],
    }
    await make_pod(api, job, status)
    await end_job(api, job, "Complete" if exit_code == 0 else "Failed")


async def end_job(api: Api, job: Json, kind: str) -> None:
    home, name = job["metadata"]["namespace"], job["metadata"]["name"]
    now = rfc3339(time.time())
    stored = await api.get(JOB, home, name)
    assert stored is not None
    targets = {"Complete": "SuccessCriteriaMet", "Failed": "FailureTarget"}
    stored["status"] = {
        "startTime": now,
        "conditions": [
            {"type": one, "status": "True", "lastProbeTime": now, "lastTransitionTime": now,
             "reason": "Played"} for one in (targets[kind], kind)
        ],
    }  # fmt: skip
    if kind == "Complete":
        stored["status"] |= {"completionTime": now, "succeeded": 1}
    else:
        stored["status"] |= {"failed": 1}
    await api.request("PUT", JOB.path(home, name, "status"), body=stored)


async def test_from_a_question_to_a_verdict(
    api: Api, apiserver: Path, namespace: str, settings: OperatorSettings
) -> None:
    key = Key(namespace, "november")
    await ask(api, key, sinceSeconds=345_600, policies=["oracle"])
    async with await connect(apiserver) as own, operating(settings, own):
        await until(phase_is(api, key, "Pending", "InferenceNotFound"), "what it waits for")
        await serve(api, namespace)
        status = await until(phase_is(api, key, "Running"), "a run")
        job = await until(a_job(api, settings.own_namespace), "a Job")
        assert job["metadata"]["labels"]["deepseek.ai/r1backtest"] == "november"
        (container,) = job["spec"]["template"]["spec"]["containers"]
        assert "--prometheus=http://127.0.0.1:9" in container["args"]
        await play_to_the_end(api, job, 0, json.dumps(TOLD))
        status = await until(phase_is(api, key, "Succeeded"), "a verdict")
        assert status["verdict"] == VERDICT
        assert status["policies"][0]["costPerMille"] == 1190
        assert status["startSeconds"] == 120
        await api.delete(JOB, settings.own_namespace, job["metadata"]["name"])
        changed = {"spec": {"autoscaling": {"maxReplicas": 20}}}
        await api.request(
            "PATCH", R1INFERENCE.path(namespace, "production-r1"), body=changed,
            content_type="application/merge-patch+json",
        )  # fmt: skip

        async def stale() -> bool:
            stored = await api.get(R1BACKTEST, *key)
            assert stored is not None
            assert stored["status"]["phase"] == "Succeeded"
            return any(one["type"] == "Stale" for one in stored["status"]["conditions"])

        await until(stale, "another autoscaling makes it stale")
        await asyncio.sleep(2)  # the Job's end may be handled before that write is back
        before = writes(own)
        await asyncio.sleep(2)
        assert writes(own) == before, "settled"


async def test_they_run_one_at_a_time_and_a_failure_names_its_reason(
    api: Api, apiserver: Path, namespace: str, settings: OperatorSettings
) -> None:
    keys = [Key(namespace, "first"), Key(namespace, "second")]
    await serve(api, namespace)
    await ask(api, keys[0])
    async with await connect(apiserver) as own, operating(settings, own):
        await until(phase_is(api, keys[0], "Running"), "the first runs")
        await ask(api, keys[1])
        await until(phase_is(api, keys[1], "Pending", "Queued"), "the second waits")
        (job,) = await jobs(api, settings.own_namespace)
        await play_to_the_end(api, job, 3, '{"error": "only 5 minutes of history"}')
        status = await until(phase_is(api, keys[0], "Failed", "TooLittleHistory"), "it failed")
        assert "only 5 minutes" in status["conditions"][0]["message"]
        await until(phase_is(api, keys[1], "Running"), "the second's turn")


async def test_a_job_that_ends_during_a_missed_watch_is_found_again(
    api: Api, apiserver: Path, namespace: str, settings: OperatorSettings
) -> None:
    gone, ended = Key(namespace, "gone"), Key(namespace, "ended")
    await serve(api, namespace)
    await ask(api, gone)
    async with await connect(apiserver) as own, operating(settings, own):
        await until(phase_is(api, gone, "Running"), "a run")
    await api.delete(R1BACKTEST, *gone)
    await ask(api, ended, ttlSecondsAfterFinished=0)
    async with await connect(apiserver) as own, operating(settings, own):
        await until(phase_is(api, ended, "Running"), "the Job of the lost one made room")
        (job,) = await jobs(api, settings.own_namespace)
        assert job["metadata"]["labels"]["deepseek.ai/r1backtest"] == "ended"
    await play_to_the_end(api, job, 0, json.dumps(TOLD))
    async with await connect(apiserver) as own, operating(settings, own):

        async def is_gone() -> bool:
            return await api.get(R1BACKTEST, *ended) is None

        await until(is_gone, "its time to live is over")

        async def no_jobs() -> bool:
            return not await jobs(api, settings.own_namespace)

        await until(no_jobs, "its Job goes with it")


async def test_a_job_that_is_deleted_is_a_failure_and_a_strange_answer_too(
    api: Api, apiserver: Path, namespace: str, settings: OperatorSettings
) -> None:
    lost, strange = Key(namespace, "lost"), Key(namespace, "strange")
    await serve(api, namespace)
    await ask(api, lost)
    async with await connect(apiserver) as own, operating(settings, own):
        await until(phase_is(api, lost, "Running"), "a run")
        (job,) = await jobs(api, settings.own_namespace)
        await api.delete(JOB, settings.own_namespace, job["metadata"]["name"])
        await until(phase_is(api, lost, "Failed", "JobLost"), "it is not made again")
        await ask(api, strange)
        job = await until(a_job(api, settings.own_namespace), "a Job")
        verdict = {**VERDICT, "activation": "x" * 100}
        await play_to_the_end(api, job, 0, json.dumps({"verdict": verdict}))
        await until(phase_is(api, strange, "Failed", "NoResult"), "refused, and said so")


async def test_an_unschedulable_backtest_is_reported_and_the_next_one_starts(
    api: Api,
    apiserver: Path,
    namespace: str,
    settings: OperatorSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stuck, patient = Key(namespace, "stuck"), Key(namespace, "patient")
    await serve(api, namespace)
    await ask(api, stuck)
    async with await connect(apiserver) as own, operating(settings, own):
        await until(phase_is(api, stuck, "Running"), "a run")
        await ask(api, patient)
        await until(phase_is(api, patient, "Pending", "Queued"), "the second waits")
        job = await until(a_job(api, settings.own_namespace), "a Job")
        no_node = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                   "message": "0/3 nodes are available"}  # fmt: skip
        await make_pod(api, job, {"phase": "Pending", "conditions": [no_node]})

        async def blocked() -> bool:
            stored = await api.get(R1BACKTEST, *stuck)
            assert stored is not None
            conditions = {one["type"]: one for one in stored["status"]["conditions"]}
            return bool(conditions.get("Blocked", {}).get("reason") == "Unschedulable")

        await until(blocked, "a condition with the scheduler's words")
        monkeypatch.setattr(lifecycle, "START_TIMEOUT_SECONDS", 5)  # for ten minutes
        await until(phase_is(api, stuck, "Failed", "Unschedulable"), "it is given up")
        monkeypatch.undo()
        await until(phase_is(api, patient, "Running"), "the second's turn")
        (left,) = await jobs(api, settings.own_namespace)
        assert left["metadata"]["labels"]["deepseek.ai/r1backtest"] == "patient"

        async def has_events() -> bool:
            wanted = {"BacktestStarted", "BacktestBlocked", "BacktestFailed"}
            return {("R1Backtest", reason) for reason in wanted} <= set(await events(api, stuck))

        await until(has_events, "Events")


async def test_a_forecast_acts_only_with_the_approval_of_its_named_backtest(
    api: Api, apiserver: Path, namespace: str, settings: OperatorSettings
) -> None:
    key = Key(namespace, "november")
    named = {**AUTOSCALING, "forecast": {"backtestName": key.name}}
    manifest = resource("production-r1", namespace, autoscaling=named)
    await api.create(R1INFERENCE, namespace, manifest)

    def unproved(reason: str | None) -> Any:
        async def check() -> bool:
            stored = await api.get(R1INFERENCE, namespace, "production-r1")
            conditions = (stored or {}).get("status", {}).get("conditions") or ()
            reasons = {one["type"]: one["reason"] for one in conditions}
            return bool(reasons) and reasons.get("ForecastNotApproved") == reason

        return check

    async with await connect(apiserver) as own, operating(settings, own):
        await until(unproved("BacktestMissing"), "nothing of that name")
        await ask(api, key)
        await until(unproved("BacktestRunning"), "it runs")
        job = await until(a_job(api, settings.own_namespace), "a Job")
        await play_to_the_end(api, job, 0, json.dumps(TOLD))
        await until(unproved(None), "it vouches")

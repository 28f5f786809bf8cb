"""R1Backtests on a real API server: the test plays Job controller, kubelet and backtest."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from r1_bench.operator_lab import QUICK, connect, make_namespace, operating, resource, until
from r1_operator.kube.client import Api
from r1_operator.kube.kinds import JOB, POD, R1BACKTEST, R1INFERENCE, Json, Key
from r1_operator.plan.conditions import rfc3339
from r1_operator.settings import Settings

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
async def settings(api: Api, namespace: str) -> Settings:
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
        found = await api.get(R1BACKTEST, *key)
        status = (found or {}).get("status") or {}
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
        found = await jobs(api, home)
        return found[0] if found else None

    return check


def writes(own: Api) -> list[str]:
    """The paths of an operator's writes that are about backtests."""
    return [one.path for one in own.log.recent if one.is_write and "r1backtests" in one.path]


async def play_to_the_end(api: Api, job: Json, exit_code: int, message: str) -> None:
    """Make the Job's pod, end it with a termination message, and say of the Job that it ended."""
    home, name = job["metadata"]["namespace"], job["metadata"]["name"]
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": job["metadata"]["uid"]}
    template = job["spec"]["template"]
    pod = await api.create(
        POD,
        home,
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {**template["metadata"], "name": f"{name}-x", "ownerReferences": [owner]},
            "spec": template["spec"],
        },
    )
    reason = "Completed" if exit_code == 0 else "Error"
    state = {"exitCode": exit_code, "reason": reason, "message": message}
    pod["status"] = {
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
    await api.request("PUT", POD.path(home, pod["metadata"]["name"], "status"), body=pod)
    await end_job(api, job, "Complete" if exit_code == 0 else "Failed")


async def end_job(api: Api, job: Json, kind: str) -> None:
    home, name = job["metadata"]["namespace"], job["metadata"]["name"]
    now = rfc3339(time.time())
    found = await api.get(JOB, home, name)
    assert found is not None
    targets = {"Complete": "SuccessCriteriaMet", "Failed": "FailureTarget"}
    found["status"] = {
        "startTime": now,
        "conditions": [
            {"type": one, "status": "True", "lastProbeTime": now, "lastTransitionTime": now,
             "reason": "Played"} for one in (targets[kind], kind)
        ],
    }  # fmt: skip
    if kind == "Complete":
        found["status"] |= {"completionTime": now, "succeeded": 1}
    else:
        found["status"] |= {"failed": 1}
    await api.request("PUT", JOB.path(home, name, "status"), body=found)


async def test_from_a_question_to_a_verdict(
    api: Api, apiserver: Path, namespace: str, settings: Settings
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
            found = await api.get(R1BACKTEST, *key)
            assert found is not None
            assert found["status"]["phase"] == "Succeeded"
            return any(one["type"] == "Stale" for one in found["status"]["conditions"])

        await until(stale, "another autoscaling makes it stale")
        before = writes(own)
        await asyncio.sleep(2)
        assert writes(own) == before, "settled"


async def test_they_run_one_at_a_time_and_a_failure_names_its_reason(
    api: Api, apiserver: Path, namespace: str, settings: Settings
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


async def test_what_happens_while_nobody_watches_is_found_again(
    api: Api, apiserver: Path, namespace: str, settings: Settings
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
    api: Api, apiserver: Path, namespace: str, settings: Settings
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
        await until(phase_is(api, strange, "Failed", "NoVerdict"), "refused, and said so")

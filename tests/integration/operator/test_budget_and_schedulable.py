"""A budget, and nodes without room: the count stops there, and every place says why."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fake_services import FakeSites, at_least, decisions
from r1_bench.operator_scale.testbed import QUICK, connect, operating, resource, until
from r1_operator.kube.client import Api
from r1_operator.kube.kinds import DEPLOYMENT, EVENT, NODE, POD, R1INFERENCE, Json, Key

pytestmark = pytest.mark.apiserver

GPU = "nvidia.com/gpu"


def manifest(key: Key, template: Json | None = None, **autoscaling: Any) -> Json:
    """A resource of one GPU each for 10 requests a second, of which 45 are offered: 7 needed."""
    return resource(
        key.name,
        key.namespace,
        replicas=2,
        resources={"limits": {GPU: 1}},
        autoscaling={
            "minReplicas": 1,
            "maxReplicas": 10,
            "metrics": [{"type": "RequestsPerSecond", "target": 10}],
            "forecast": {"activation": "Never"},
            **autoscaling,
        },
        template={"spec": template or {}},
    )


def condition(api: Api, key: Key, kind: str) -> Any:
    """A condition to wait for while True; None where it is not."""

    async def check() -> Json | None:
        inference = await api.get(R1INFERENCE, *key) or {}
        conditions = {one["type"]: one for one in inference.get("status", {}).get("conditions", ())}
        return conditions.get(kind)

    return check


def event(api: Api, namespace: str, reason: str) -> Any:
    """An Event to wait for."""

    async def check() -> Json | None:
        answer = await api.request("GET", EVENT.path(namespace))
        return next((one for one in answer["items"] if one["reason"] == reason), None)

    return check


async def replicas(api: Api, key: Key) -> int:
    deployment = await api.get(DEPLOYMENT, *key)
    assert deployment is not None
    return int(deployment["spec"]["replicas"])


async def test_a_budget_has_the_same_message_everywhere_and_reads_no_node(
    api: Api, apiserver: Path, namespace: str, sites: FakeSites, caplog: pytest.LogCaptureFixture
) -> None:
    key = Key(namespace, "bounded")
    sites.route, sites.rate = str(key), 45.0
    budget = {"gpus": 5, "power": {"limitWatts": "10k", "wattsPerReplica": 700}}
    await api.create(R1INFERENCE, namespace, manifest(key, budget=budget))
    settings = replace(QUICK, namespaces=(namespace,), gateway_urls=(sites.url,))
    async with await connect(apiserver) as own, operating(settings, own) as operation:
        await until(at_least(api, key, 5), "five replicas", seconds=40)
        limited = await until(condition(api, key, "ScalingLimited"), "ScalingLimited")
        assert limited["reason"] == "AtGpuBudget"
        words = "5 replicas: the budget of 5 GPUs allows 5 at 1 per replica; demand needs "
        assert limited["message"].startswith(words)
        written = await until(event(api, namespace, "AtGpuBudget"), "the Event")
        assert (written["note"], written["type"]) == (limited["message"], "Warning")
        assert f"{key}: limited (AtGpuBudget) {limited['message']}" in caplog.text
        newest = (await decisions(operation.server.port, key))[-1]
        assert newest["message"].startswith(words)
        assert newest["inputs"]["policy"]["budgets"] == {"AtGpuBudget": 5, "AtPowerBudget": 14}
        assert await replicas(api, key) == 5

        change = {"spec": {"autoscaling": {"budget": {"gpus": 3}}}}
        await api.request(
            "PATCH",
            R1INFERENCE.path(*key),
            body=change,
            content_type="application/merge-patch+json",
        )

        async def lowered() -> bool:
            return await replicas(api, key) == 3

        await until(lowered, "a lowered budget holds at once")
        assert not [one for one in own.log.recent if one.path == NODE.path()]


async def test_a_resource_does_not_start_above_its_budget(
    api: Api, apiserver: Path, namespace: str
) -> None:
    key = Key(namespace, "large")
    body = manifest(key, budget={"gpus": 3})
    body["spec"]["replicas"] = 9
    await api.create(R1INFERENCE, namespace, body)
    settings = replace(QUICK, namespaces=(namespace,))
    async with await connect(apiserver) as own, operating(settings, own):
        await until(at_least(api, key, 1), "the Deployment")
        writes = [one for one in own.log.recent if one.is_write and "deployments" in one.path]
        assert (await replicas(api, key), len(writes)) == (3, 1)


@pytest.fixture
async def node(api: Api, namespace: str) -> AsyncIterator[str]:
    """A ready node of four GPUs, of which another team's pod holds one."""
    name = f"node-{namespace}"
    await api.request(
        "POST",
        NODE.path(),
        body={
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": {"lab": namespace}},
        },
    )
    # The API server taints a new node as not ready; the node controller would take that off.
    taints = [{"key": GPU, "value": "present", "effect": "NoSchedule"}]
    await api.request(
        "PATCH",
        NODE.path(None, name),
        body={"spec": {"taints": taints}},
        content_type="application/merge-patch+json",
    )
    status = {
        "allocatable": {GPU: "4", "cpu": "64", "memory": "512Gi", "pods": "110"},
        "conditions": [{"type": "Ready", "status": "True"}],
    }
    await api.request(
        "PATCH",
        NODE.path(None, name, "status"),
        body={"status": status},
        content_type="application/merge-patch+json",
    )
    container = {"name": "other", "image": "other", "resources": {"limits": {GPU: 1}}}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "other", "namespace": namespace},
        "spec": {"nodeName": name, "containers": [container]},
    }
    await api.create(POD, namespace, pod)
    yield name
    await api.request("DELETE", NODE.path(None, name))


async def test_only_schedulable_replicas_and_one_more_are_requested(
    api: Api, apiserver: Path, namespace: str, sites: FakeSites, node: str
) -> None:
    key = Key(namespace, "bindable")
    sites.route, sites.rate = str(key), 45.0
    body = manifest(key, {"nodeSelector": {"lab": namespace}}, capacity={"policy": "Bindable"})
    await api.create(R1INFERENCE, namespace, body)
    settings = replace(QUICK, namespaces=(namespace,), gateway_urls=(sites.url,))
    async with await connect(apiserver) as own, operating(settings, own) as operation:
        await until(at_least(api, key, 4), "four replicas", seconds=40)
        limited = await until(condition(api, key, "ScalingLimited"), "ScalingLimited")
        assert limited["reason"] == "InsufficientCapacity"
        assert (
            "needed fit on nodes (1 node fits 3). 1 more may wait for a node (pendingReplicas)."
            in (limited["message"])
        )
        written = await until(event(api, namespace, "InsufficientCapacity"), "the Event")
        assert written["note"] == limited["message"]
        await asyncio.sleep(5)
        assert await replicas(api, key) == 4, "nothing that finds no node is multiplied"
        newest = (await decisions(operation.server.port, key))[-1]
        assert newest["inputs"]["schedulable"] == {
            "placed": 0,
            "unschedulable": 0,
            "replicas": 3,
            "nodes": 1,
            "summary": "1 node fits 3",
        }

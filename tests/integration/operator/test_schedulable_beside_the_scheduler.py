"""Room as we count it and room as kube-scheduler finds it: on odd clusters they are one number."""

import asyncio
import random
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from r1_bench.operator_scale.testbed import until
from r1_cluster import providers
from r1_cluster.programs.binaries import ensure_binaries
from r1_operator.kube.client import Api
from r1_operator.kube.kinds import NODE, POD, Json
from r1_operator.plan.placement.node_parsing import read_shape
from r1_operator.plan.placement.schedulable import SchedulableCapacity, schedulable_replicas
from r1_operator.sources.nodes import Nodes, NodeSnapshot

pytestmark = pytest.mark.apiserver

GPU = "nvidia.com/gpu"
NODES, MOST = 6, 24


@pytest.fixture
def scheduler(apiserver: Path, tmp_path: Path) -> Iterator[None]:
    """The real scheduler; a given cluster has its own."""
    if providers.given_kubeconfig() is not None:
        yield
        return
    program = ensure_binaries(("kube-scheduler",))["kube-scheduler"]
    flags = ["--leader-elect=false", "--secure-port=0", f"--kubeconfig={apiserver}"]
    with (
        (tmp_path / "scheduler.log").open("wb") as log,
        subprocess.Popen([program, *flags], stdout=log, stderr=log) as process,
    ):
        yield
        process.kill()


async def merge(api: Api, path: str, body: Json) -> None:
    await api.request("PATCH", path, body=body, content_type="application/merge-patch+json")


def a_node(dice: random.Random, name: str, lab: str) -> tuple[Json, Json, Json]:
    """A node as made, its spec, and its status: GPUs or none, taints, a cordon, little memory."""
    labels = {"lab": lab, "gpu": dice.choice(["h100", "h100", "a100"])}
    taints = [{"key": GPU, "value": "present", "effect": "NoSchedule"}]
    taints += dice.sample(
        [
            {"key": "team", "value": "other", "effect": "NoExecute"},
            {"key": "soft", "value": "x", "effect": "PreferNoSchedule"},
        ],
        dice.choice([0, 0, 1]),
    )
    allocatable = {
        "cpu": dice.choice(["16", "7500m"]),
        "memory": dice.choice(["24Gi", "512Gi"]),
        "pods": dice.choice(["2", "110"]),
    }
    if dice.random() < 0.9:
        allocatable[GPU] = str(dice.randint(0, 8))
    made = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}
    spec = {"taints": taints, "unschedulable": dice.random() < 0.15}
    ready = {"type": "Ready", "status": "True"}
    return made, spec, {"allocatable": allocatable, "conditions": [ready]}


def a_pod_spec(dice: random.Random, lab: str) -> Json:
    """What a replica asks for, in one of the ways in which it may be written."""
    amounts = {GPU: dice.choice([1, 2, 3]), "memory": "4Gi", "cpu": "500m"}
    spec: Json = {
        "containers": [{"name": "engine", "image": "engine", "resources": {"limits": amounts}}],
        "nodeSelector": {"lab": lab},
        "tolerations": [dice.choice([{"key": GPU, "operator": "Exists"}, {"operator": "Exists"}])],
    }
    if dice.random() < 0.5:
        load: Json = {"name": "load", "image": "load", "resources": {"requests": {"cpu": "3"}}}
        stay = {"name": "stay", "image": "stay", "resources": {"requests": {"memory": "3Gi"}}}
        spec["initContainers"] = [{**stay, "restartPolicy": "Always"}, load]
    if dice.random() < 0.5:
        gpu = {"key": "gpu", "operator": dice.choice(["In", "NotIn"]), "values": ["h100"]}
        terms = {"nodeSelectorTerms": [{"matchExpressions": [gpu]}]}
        required = {"requiredDuringSchedulingIgnoredDuringExecution": terms}
        spec["affinity"] = {"nodeAffinity": required}
    return spec


@asynccontextmanager
async def made_nodes(api: Api, dice: random.Random, lab: str) -> AsyncIterator[list[str]]:
    """Nodes for one story, taken away at its end."""
    names = [f"{lab}-{number}" for number in range(NODES)]
    try:
        for name in names:
            made, spec, status = a_node(dice, name, lab)
            await api.request("POST", NODE.path(), body=made)
            await merge(api, NODE.path(None, name, "status"), {"status": status})
            # Last: the API server taints a new node as not ready, and takes pods from then on.
            await merge(api, NODE.path(None, name), {"spec": spec})
        yield names
    finally:
        for name in names:
            await api.delete(NODE, None, name)  # type: ignore[arg-type]


async def room(api: Api, spec: Json) -> SchedulableCapacity:
    nodes = Nodes(api)
    await nodes.refresh()
    snapshot = nodes.latest()
    assert isinstance(snapshot, NodeSnapshot), snapshot
    await nodes.close()
    return schedulable_replicas(read_shape(spec), snapshot.nodes)


async def bound(api: Api, namespace: str) -> tuple[int, bool]:
    """How many replicas have a node, and whether the scheduler has said yes or no to each."""
    answer = await api.request("GET", POD.path(namespace), query={"labelSelector": "app=replica"})
    pods: list[Json] = answer["items"]
    placed = [pod for pod in pods if pod["spec"].get("nodeName")]
    return len(placed), all(pod in placed or refused(pod) for pod in pods)


def refused(pod: Json) -> bool:
    conditions: list[Any] = pod["status"].get("conditions") or []
    return any(one.get("reason") == "Unschedulable" for one in conditions)


@pytest.mark.parametrize("seed", range(8))
async def test_as_many_find_a_node_as_there_is_room_for(
    seed: int, api: Api, namespace: str, scheduler: None
) -> None:
    dice = random.Random(seed)
    spec = a_pod_spec(dice, namespace)
    async with made_nodes(api, dice, namespace) as names:
        holder: Json = {"name": "other", "image": "x", "resources": {"limits": {GPU: 1}}}
        for name in dice.sample(names, 3):
            other: Json = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}}
            other["spec"] = {"nodeName": name, "containers": [holder]}
            await api.create(POD, namespace, other)
        before = await room(api, spec)
        for number in range(MOST):
            metadata = {"name": f"r-{number}", "labels": {"app": "replica"}}
            replica = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
            await api.create(POD, namespace, replica)
        wanted = (min(before.replicas, MOST), True)

        async def settled() -> bool:
            return await bound(api, namespace) == wanted

        # A refusal is not its last word: it may see pods before it sees the nodes.
        await until(settled, f"{wanted[0]} find a node: {before.summary}")
        await asyncio.sleep(2)
        assert await bound(api, namespace) == wanted, before.summary
        if before.replicas <= MOST:
            assert (await room(api, spec)).replicas == 0

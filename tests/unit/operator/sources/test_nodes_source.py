"""Node snapshots: on demand, periodic, in pages, with stale and missing data."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from r1_common.contracts.unavailable import Unavailable
from r1_operator.api.names import Label
from r1_operator.kube.client import KubeApiError, RequestRefused, Unreachable
from r1_operator.kube.kinds import Json, Key, Kind
from r1_operator.plan.placement.schedulable import NODES_PENDING
from r1_operator.sources.nodes import BOUND_PODS, Nodes, NodeSnapshot

GPU = "nvidia.com/gpu"


class Cluster:
    """An API server with one node of eight GPUs, and a clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.lists: list[tuple[str, str]] = []
        self.pods: list[Json] = []
        self.failure: KubeApiError | None = None
        api: Any = self
        self.nodes = Nodes(api, clock=lambda: self.now)

    async def list_pages(self, kind: Kind, *, field_selector: str = "") -> AsyncIterator[Json]:
        self.lists.append((kind.name, field_selector))
        if self.failure is not None:
            raise self.failure
        if kind.name == "Pod":
            for pod in self.pods:
                yield {"items": [pod]}
        status = {
            "allocatable": {GPU: "8", "pods": "110"},
            "conditions": [{"type": "Ready", "status": "True"}],
        }
        if kind.name == "Node":
            yield {"items": [{"metadata": {"name": "a"}, "status": status}]}

    def run(self, gpus: int, owner: str | None = None, *, leaves: bool = False) -> None:
        engine = {"resources": {"limits": {GPU: gpus}}}
        metadata: Json = {"name": "p", "namespace": "team"}
        if owner is not None:
            metadata["labels"] = {Label.RESOURCE.value: owner}
        if leaves:
            metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        self.pods.append({"metadata": metadata, "spec": {"nodeName": "a", "containers": [engine]}})

    async def after(self, seconds: float) -> NodeSnapshot | Unavailable:
        """Request, wait for the background listing, and request again."""
        self.now += seconds
        self.nodes.latest()
        for _ in range(10):
            await asyncio.sleep(0)
        return self.nodes.latest()


def free(snapshot: NodeSnapshot | Unavailable) -> list[int]:
    assert not isinstance(snapshot, Unavailable), snapshot
    return [int(node.free[GPU]) for node in snapshot.nodes]


async def test_nodes_are_not_listed_before_the_first_request() -> None:
    cluster = Cluster()
    await asyncio.sleep(0)
    assert cluster.lists == []
    assert cluster.nodes.latest() is NODES_PENDING
    assert free(await cluster.after(0)) == [8]
    assert cluster.lists == [("Pod", BOUND_PODS), ("Node", "")]


async def test_nodes_are_listed_every_15_seconds() -> None:
    cluster = Cluster()
    await cluster.after(0)
    cluster.run(gpus=3)
    cluster.run(gpus=1)
    assert free(await cluster.after(14)) == [8]
    assert free(await cluster.after(1)) == [4]
    assert len(cluster.lists) == 4


async def test_nodes_and_bound_pods_are_of_one_listing() -> None:
    cluster = Cluster()
    for owner, leaves in (("r1", False), ("r1", False), ("r1", True), ("v3", False), (None, False)):
        cluster.run(1, owner, leaves=leaves)
    snapshot = await cluster.after(0)
    assert free(snapshot) == [3], "a pod that leaves holds its device to the end"
    assert isinstance(snapshot, NodeSnapshot)
    assert snapshot.placed == {Key("team", "r1"): 2, Key("team", "v3"): 1}


async def test_a_stale_node_snapshot_is_not_used_after_a_pause() -> None:
    cluster = Cluster()
    await cluster.after(0)
    cluster.run(gpus=8)
    cluster.now += 3600
    assert cluster.nodes.latest() is NODES_PENDING
    assert free(await cluster.after(0)) == [0]


async def test_an_unreachable_server_keeps_the_node_snapshot_for_one_minute() -> None:
    cluster = Cluster()
    await cluster.after(0)
    cluster.failure = Unreachable("no answer")
    assert free(await cluster.after(60)) == [8]
    snapshot = await cluster.after(14)
    assert isinstance(snapshot, Unavailable)
    assert (snapshot.reason, snapshot.message) == (
        "StaleNodes",
        "The nodes were last listed 74 s ago.",
    )
    cluster.failure = None
    assert free(await cluster.after(10)) == [8]


async def test_an_unreachable_server_is_reported_after_the_first_listing() -> None:
    cluster = Cluster()
    cluster.failure = Unreachable("no answer")
    snapshot = await cluster.after(0)
    assert isinstance(snapshot, Unavailable)
    assert snapshot.reason == "NodesNotRead"


async def test_a_missing_node_permission_names_the_chart_value_and_is_retried_every_minute() -> (
    None
):
    cluster = Cluster()
    cluster.failure = RequestRefused("forbidden", status=403)
    snapshot = await cluster.after(0)
    assert isinstance(snapshot, Unavailable)
    assert snapshot.reason == "NodesForbidden"
    assert "operator.readNodes" in snapshot.message
    await cluster.after(59)
    assert len(cluster.lists) == 1
    cluster.failure = None
    assert free(await cluster.after(1)) == [8]


async def test_an_expired_listing_is_not_a_missing_permission() -> None:
    cluster = Cluster()
    cluster.failure = RequestRefused("the continue token is too old", status=410)
    snapshot = await cluster.after(0)
    assert isinstance(snapshot, Unavailable)
    assert snapshot.reason == "NodesNotRead"
    cluster.failure = None
    assert free(await cluster.after(15)) == [8]


async def test_close_cancels_a_running_node_listing() -> None:
    cluster = Cluster()
    cluster.nodes.latest()
    await cluster.nodes.close()
    assert cluster.nodes.latest() is NODES_PENDING

"""Looking at nodes: only when asked, seldom, in pages, and honest about what was not seen."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from r1_operator.api.names import Label
from r1_operator.kube.client import KubeApiError, RequestRefused, Unreachable
from r1_operator.kube.kinds import Json, Key, Kind
from r1_operator.plan.placement.schedulable import NODES_PENDING
from r1_operator.plan.unavailable import Unavailable
from r1_operator.sources.nodes import PLACED, Nodes, NodeSnapshot

GPU = "nvidia.com/gpu"


class Cluster:
    """An API server with one node of eight GPUs, and a clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.asked: list[tuple[str, str]] = []
        self.pods: list[Json] = []
        self.failure: KubeApiError | None = None
        api: Any = self
        self.nodes = Nodes(api, clock=lambda: self.now)

    async def list_pages(self, kind: Kind, *, field_selector: str = "") -> AsyncIterator[Json]:
        self.asked.append((kind.name, field_selector))
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
        """Ask, let the background work end, and ask again."""
        self.now += seconds
        self.nodes.latest()
        for _ in range(10):
            await asyncio.sleep(0)
        return self.nodes.latest()


def free(found: NodeSnapshot | Unavailable) -> list[int]:
    assert not isinstance(found, Unavailable), found
    return [int(node.free[GPU]) for node in found.nodes]


async def test_nothing_is_listed_before_somebody_asks() -> None:
    cluster = Cluster()
    await asyncio.sleep(0)
    assert cluster.asked == []
    assert cluster.nodes.latest() is NODES_PENDING
    assert free(await cluster.after(0)) == [8]
    assert cluster.asked == [("Pod", PLACED), ("Node", "")]


async def test_it_looks_again_every_fifteen_seconds_and_not_in_between() -> None:
    cluster = Cluster()
    await cluster.after(0)
    cluster.run(gpus=3)
    cluster.run(gpus=1)
    assert free(await cluster.after(14)) == [8]
    assert free(await cluster.after(1)) == [4]
    assert len(cluster.asked) == 4


async def test_the_replicas_that_had_a_place_are_of_the_same_look() -> None:
    cluster = Cluster()
    for owner, leaves in (("r1", False), ("r1", False), ("r1", True), ("v3", False), (None, False)):
        cluster.run(1, owner, leaves=leaves)
    found = await cluster.after(0)
    assert free(found) == [3], "a pod that leaves holds its device to the end"
    assert isinstance(found, NodeSnapshot)
    assert found.placed == {Key("team", "r1"): 2, Key("team", "v3"): 1}


async def test_after_a_pause_an_old_look_is_not_taken_for_the_present() -> None:
    cluster = Cluster()
    await cluster.after(0)
    cluster.run(gpus=8)
    cluster.now += 3600
    assert cluster.nodes.latest() is NODES_PENDING
    assert free(await cluster.after(0)) == [0]


async def test_a_silent_server_leaves_the_last_look_for_a_minute() -> None:
    cluster = Cluster()
    await cluster.after(0)
    cluster.failure = Unreachable("no answer")
    assert free(await cluster.after(60)) == [8]
    found = await cluster.after(14)
    assert isinstance(found, Unavailable)
    assert (found.reason, found.message) == ("StaleNodes", "The nodes were last read 74 s ago.")
    cluster.failure = None
    assert free(await cluster.after(10)) == [8]


async def test_a_server_that_was_never_heard_is_told_apart_from_the_first_moment() -> None:
    cluster = Cluster()
    cluster.failure = Unreachable("no answer")
    found = await cluster.after(0)
    assert isinstance(found, Unavailable)
    assert found.reason == "NodesNotRead"


async def test_a_missing_right_names_the_setting_and_is_asked_for_once_a_minute() -> None:
    cluster = Cluster()
    cluster.failure = RequestRefused("forbidden", status=403)
    found = await cluster.after(0)
    assert isinstance(found, Unavailable)
    assert found.reason == "MayNotSeeNodes"
    assert "operator.readNodes" in found.message
    await cluster.after(59)
    assert len(cluster.asked) == 1
    cluster.failure = None
    assert free(await cluster.after(1)) == [8]


async def test_a_listing_that_expired_half_way_is_no_missing_right() -> None:
    cluster = Cluster()
    cluster.failure = RequestRefused("the continue token is too old", status=410)
    found = await cluster.after(0)
    assert isinstance(found, Unavailable)
    assert found.reason == "NodesNotRead"
    cluster.failure = None
    assert free(await cluster.after(15)) == [8]


async def test_closing_drops_a_look_that_is_under_way() -> None:
    cluster = Cluster()
    cluster.nodes.latest()
    await cluster.nodes.close()
    assert cluster.nodes.latest() is NODES_PENDING

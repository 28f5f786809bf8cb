"""One way into the views: what has gone is dropped, and a resync asks only about what is missing."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from r1_operator.api.names import Label
from r1_operator.controller.liveness import Liveness
from r1_operator.controller.watch.event_handler import EventHandler
from r1_operator.controller.watch.relist import Relist
from r1_operator.kube.client import Api
from r1_operator.kube.kinds import DEPLOYMENT, POD, R1INFERENCE, Json, Key, Kind
from r1_operator.kube.store import Stores
from r1_operator.metrics import OperatorMetrics


def an_object(
    name: str, version: int, *, namespace: str = "ns", owner: str = "", uid: str = ""
) -> Json:
    """A child of `owner`, a pod or a resource, as far as the views read it."""
    return {
        "metadata": {
            "namespace": namespace,
            "name": name,
            "uid": uid or f"uid-{name}",
            "resourceVersion": str(version),
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {Label.RESOURCE.value: owner or name},
        },
        "spec": {"replicas": 1},
        "status": {"phase": "Running"},
    }


class World:
    """An handler and what it marked."""

    def __init__(self) -> None:
        self.stores, self.marked, self.metrics = Stores(), list[Key](), OperatorMetrics()
        self.liveness = Liveness(silent_seconds=60)
        self.handler = EventHandler(
            self.stores, enqueue=self.marked.append, liveness=self.liveness, metrics=self.metrics
        )


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize("kind", [R1INFERENCE, DEPLOYMENT, POD])
def test_what_a_listing_no_longer_has_is_dropped_and_its_resource_marked(
    world: World, kind: Kind
) -> None:
    world.handler.handle_page(kind, [an_object("stays", 5), an_object("goes", 6)])
    world.marked.clear()
    world.handler.delete_missing(kind, {Key("ns", "stays"): "uid-stays"}, as_of=10)
    assert {key for key, _, _ in world.stores.of(kind).versions()} == {Key("ns", "stays")}
    assert world.marked == [Key("ns", "goes")]


def test_what_came_after_the_listing_is_left_alone(world: World) -> None:
    world.handler.handle_event(DEPLOYMENT, "ADDED", an_object("newer", 11))
    world.handler.delete_missing(DEPLOYMENT, {}, as_of=10)
    assert world.stores.of(DEPLOYMENT).version(Key("ns", "newer")) == 11


def test_another_object_of_that_name_is_not_the_one_that_was_there(world: World) -> None:
    world.handler.handle_event(DEPLOYMENT, "ADDED", an_object("again", 5, uid="first"))
    world.handler.delete_missing(DEPLOYMENT, {Key("ns", "again"): "second"}, as_of=10)
    assert world.stores.of(DEPLOYMENT).version(Key("ns", "again")) == -1


def test_a_listing_of_one_namespace_says_nothing_about_others(world: World) -> None:
    world.handler.handle_page(
        DEPLOYMENT, [an_object("a", 5, namespace="one"), an_object("b", 6, namespace="two")]
    )
    world.handler.delete_missing(DEPLOYMENT, {}, as_of=10, namespace="one")
    assert [key for key, _, _ in world.stores.of(DEPLOYMENT).versions()] == [Key("two", "b")]


def test_a_pod_marks_the_resource_that_it_serves(world: World) -> None:
    world.handler.handle_event(POD, None, an_object("pod-1", 5, owner="model"))
    world.handler.handle_event(POD, "DELETED", an_object("pod-1", 6, owner="model"))
    world.handler.handle_event(POD, "DELETED", an_object("pod-1", 7, owner="model"))
    assert world.marked == [Key("ns", "model")] * 2, "what was not there cannot go"


class Listed:
    """An API server's listings and objects."""

    def __init__(self) -> None:
        self.objects: dict[Kind, list[Json]] = {}
        self.listed: list[Kind] = []
        self.fetched: list[Key] = []

    async def list_pages(self, kind: Kind, *_: Any, **__: Any) -> AsyncIterator[Json]:
        self.listed.append(kind)
        yield {"metadata": {"resourceVersion": "50"}, "items": self.objects.get(kind, [])}

    async def get(self, kind: Kind, namespace: str, name: str) -> Json | None:
        self.fetched.append(Key(namespace, name))
        objects = self.objects.get(kind, [])
        return next((one for one in objects if one["metadata"]["name"] == name), None)


def resync_of(world: World, server: Listed) -> Relist:
    return Relist(
        cast(Api, server),
        world.handler,
        kinds=lambda: (R1INFERENCE, DEPLOYMENT),
        initial_kinds=(R1INFERENCE,),
        namespaces=(),
        liveness=world.liveness,
        metrics=world.metrics,
        period_seconds=100.0,
    )


@pytest.mark.looptime
async def test_the_start_looks_only_at_what_tells_no_end_of_its_listing(world: World) -> None:
    server = Listed()
    running = asyncio.create_task(resync_of(world, server).run())
    await asyncio.sleep(80)
    assert server.listed == [R1INFERENCE]
    assert world.stores.resources.complete.is_set()
    assert not world.stores.of(DEPLOYMENT).complete.is_set(), "its mirror says that"
    await asyncio.sleep(35)
    assert server.listed == [R1INFERENCE, R1INFERENCE, DEPLOYMENT]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@pytest.mark.looptime
async def test_what_does_not_arrive_by_itself_is_asked_for_by_name(world: World) -> None:
    server = Listed()
    server.objects[DEPLOYMENT] = [an_object("here", 5), an_object("late", 6), an_object("lost", 7)]
    world.handler.handle_event(DEPLOYMENT, None, an_object("here", 5))
    looking = asyncio.create_task(resync_of(world, server).relist(DEPLOYMENT))
    await asyncio.sleep(3)
    world.handler.handle_event(DEPLOYMENT, "ADDED", an_object("late", 6))
    assert await looking == 1
    assert server.fetched == [Key("ns", "lost")]
    assert Key("ns", "lost") in world.marked
    assert world.stores.of(DEPLOYMENT).complete.is_set()


@pytest.mark.looptime
async def test_an_object_that_nobody_can_read_ends_no_resync(world: World) -> None:
    server = Listed()
    broken = {**an_object("broken", 5), "spec": None}
    server.objects[DEPLOYMENT] = [broken, an_object("lost", 7)]
    assert await resync_of(world, server).relist(DEPLOYMENT) == 1
    assert world.stores.of(DEPLOYMENT).version(Key("ns", "lost")) == 7

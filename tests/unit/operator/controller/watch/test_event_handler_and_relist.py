"""Event handler and relist: deleted objects are removed, and only missing objects are read."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from r1_operator.api.names import Label
from r1_operator.controller.liveness import Liveness
from r1_operator.controller.watch.event_handler import EventHandler
from r1_operator.controller.watch.relist import Relist
from r1_operator.kube.backtest_store import BacktestStores
from r1_operator.kube.client import Api, NotFound, RequestRefused
from r1_operator.kube.kinds import DEPLOYMENT, POD, R1BACKTEST, R1INFERENCE, Json, Key, Kind
from r1_operator.kube.store import Stores
from r1_operator.metrics import OperatorMetrics


def an_object(
    name: str, version: int, *, namespace: str = "ns", owner: str = "", uid: str = ""
) -> Json:
    """A child of `owner`, a pod or a resource, with the fields that the stores read."""
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
    """An event handler and the keys that it enqueued."""

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
def test_objects_missing_in_a_listing_are_removed_and_their_resource_enqueued(
    world: World, kind: Kind
) -> None:
    world.handler.handle_page(kind, [an_object("stays", 5), an_object("goes", 6)])
    world.marked.clear()
    world.handler.delete_missing(kind, {Key("ns", "stays"): "uid-stays"}, as_of=10)
    assert {key for key, _, _ in world.stores.of(kind).versions()} == {Key("ns", "stays")}
    assert world.marked == [Key("ns", "goes")]


def test_objects_newer_than_the_listing_stay(world: World) -> None:
    world.handler.handle_event(DEPLOYMENT, "ADDED", an_object("newer", 11))
    world.handler.delete_missing(DEPLOYMENT, {}, as_of=10)
    assert world.stores.of(DEPLOYMENT).version(Key("ns", "newer")) == 11


def test_a_recreated_object_replaces_the_deleted_one(world: World) -> None:
    world.handler.handle_event(DEPLOYMENT, "ADDED", an_object("again", 5, uid="first"))
    world.handler.delete_missing(DEPLOYMENT, {Key("ns", "again"): "second"}, as_of=10)
    assert world.stores.of(DEPLOYMENT).version(Key("ns", "again")) == -1


def test_a_listing_of_one_namespace_keeps_other_namespaces(world: World) -> None:
    world.handler.handle_page(
        DEPLOYMENT, [an_object("a", 5, namespace="one"), an_object("b", 6, namespace="two")]
    )
    world.handler.delete_missing(DEPLOYMENT, {}, as_of=10, namespace="one")
    assert [key for key, _, _ in world.stores.of(DEPLOYMENT).versions()] == [Key("two", "b")]


def test_a_pod_event_enqueues_its_resource(world: World) -> None:
    world.handler.handle_event(POD, None, an_object("pod-1", 5, owner="model"))
    world.handler.handle_event(POD, "DELETED", an_object("pod-1", 6, owner="model"))
    world.handler.handle_event(POD, "DELETED", an_object("pod-1", 7, owner="model"))
    assert world.marked == [Key("ns", "model")] * 2, "what was not there cannot go"


class Listed:
    """Listings and objects of an API server."""

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


def relist_of(world: World, server: Listed) -> Relist:
    return Relist(
        cast(Api, server),
        lambda _: world.handler,
        kinds=lambda: (R1INFERENCE, DEPLOYMENT),
        initial_kinds=(R1INFERENCE,),
        namespaces=(),
        liveness=world.liveness,
        metrics=world.metrics,
        period_seconds=100.0,
    )


@pytest.mark.looptime
async def test_the_initial_relist_covers_only_initial_kinds(world: World) -> None:
    server = Listed()
    running = asyncio.create_task(relist_of(world, server).run())
    await asyncio.sleep(80)
    assert server.listed == [R1INFERENCE]
    assert world.stores.resources.complete.is_set()
    assert not world.stores.of(DEPLOYMENT).complete.is_set(), "its reflector marks it complete"
    await asyncio.sleep(35)
    assert server.listed == [R1INFERENCE, R1INFERENCE, DEPLOYMENT]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


class OneForbidden(Listed):
    """An API server that refuses to list R1Inferences."""

    async def list_pages(self, kind: Kind, *_: Any, **__: Any) -> AsyncIterator[Json]:
        if kind == R1INFERENCE:
            self.listed.append(kind)
            raise RequestRefused("r1inferences is forbidden", status=403)
        async for page in super().list_pages(kind):
            yield page


@pytest.mark.looptime
async def test_a_custom_resource_that_cannot_be_listed_does_not_delay_the_other(
    world: World,
) -> None:
    server, backtests = OneForbidden(), BacktestStores()
    enqueued = list[Key]()
    handler = EventHandler(
        backtests, enqueue=enqueued.append, liveness=world.liveness, metrics=world.metrics
    )
    server.objects[R1BACKTEST] = [an_object("november", 5)]
    relist = Relist(
        cast(Api, server),
        lambda kind: handler if kind == R1BACKTEST else world.handler,
        kinds=lambda: (R1INFERENCE, R1BACKTEST),
        initial_kinds=(R1INFERENCE, R1BACKTEST),
        namespaces=(),
        liveness=world.liveness,
        metrics=world.metrics,
        period_seconds=1000.0,
    )
    running = asyncio.create_task(relist.run())
    await asyncio.sleep(20)
    assert backtests.of(R1BACKTEST).complete.is_set()
    assert enqueued == [Key("ns", "november")], "the watch had missed it"
    assert server.listed.count(R1BACKTEST) == 1
    assert not world.stores.resources.complete.is_set()
    assert 3 <= server.listed.count(R1INFERENCE) <= 6, "retried with growing pauses"
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


class CrdInstalledLater(Listed):
    """An API server without one CRD until `installed` is set."""

    installed = False

    async def list_pages(self, kind: Kind, *_: Any, **__: Any) -> AsyncIterator[Json]:
        if not self.installed:
            raise NotFound("the server could not find the requested resource", status=404)
        async for page in super().list_pages(kind):
            yield page


@pytest.mark.looptime
async def test_a_relist_finds_the_backtests_of_a_crd_that_is_installed_after_the_operator(
    world: World,
) -> None:
    server, backtests = CrdInstalledLater(), BacktestStores()
    enqueued = list[Key]()
    handler = EventHandler(
        backtests, enqueue=enqueued.append, liveness=world.liveness, metrics=world.metrics
    )
    server.objects[R1BACKTEST] = [an_object("november", 5)]
    relist = relist_of(world, server)
    relist._handler_of = lambda _: handler
    assert await relist.relist(R1BACKTEST) == 0
    assert backtests.of(R1BACKTEST).complete.is_set(), "the controller does not wait for the CRD"
    server.installed = True
    assert await relist.relist(R1BACKTEST) == 1
    assert enqueued == [Key("ns", "november")]


@pytest.mark.looptime
async def test_a_relist_removes_a_backtest_whose_deletion_the_watch_missed(world: World) -> None:
    server, backtests = Listed(), BacktestStores()
    enqueued = list[Key]()
    handler = EventHandler(
        backtests, enqueue=enqueued.append, liveness=world.liveness, metrics=world.metrics
    )
    handler.handle_event(R1BACKTEST, "ADDED", an_object("gone", 5))
    relist = relist_of(world, server)
    relist._handler_of = lambda _: handler
    assert await relist.relist(R1BACKTEST) == 0
    assert enqueued == [Key("ns", "gone")] * 2
    assert backtests.of(R1BACKTEST).get(Key("ns", "gone")) is None


@pytest.mark.looptime
async def test_objects_missed_by_the_watch_are_read_by_name(world: World) -> None:
    server = Listed()
    server.objects[DEPLOYMENT] = [an_object("here", 5), an_object("late", 6), an_object("lost", 7)]
    world.handler.handle_event(DEPLOYMENT, None, an_object("here", 5))
    relisting = asyncio.create_task(relist_of(world, server).relist(DEPLOYMENT))
    await asyncio.sleep(3)
    world.handler.handle_event(DEPLOYMENT, "ADDED", an_object("late", 6))
    assert await relisting == 1
    assert server.fetched == [Key("ns", "lost")]
    assert Key("ns", "lost") in world.marked
    assert world.stores.of(DEPLOYMENT).complete.is_set()


@pytest.mark.looptime
async def test_a_malformed_object_does_not_end_a_relist(world: World) -> None:
    server = Listed()
    broken = {**an_object("broken", 5), "spec": None}
    server.objects[DEPLOYMENT] = [broken, an_object("lost", 7)]
    assert await relist_of(world, server).relist(DEPLOYMENT) == 1
    assert world.stores.of(DEPLOYMENT).version(Key("ns", "lost")) == 7

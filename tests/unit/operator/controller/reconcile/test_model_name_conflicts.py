"""Model name conflicts: condition and Event, by the rule of the gateways."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_api_server import FakeApiServer, client_of, fake_api_server
from model_name_cases import CASES, Case
from r1_common.model_names import NameClaim, age_key, resolve
from r1_operator.controller.reconcile.model_names import NameIndex
from r1_operator.controller.reconcile.reconciler import Reconciler
from r1_operator.kube.client import Api
from r1_operator.kube.events import EventSpec
from r1_operator.kube.kinds import R1INFERENCE, Json, Key
from r1_operator.kube.store import Stores
from r1_operator.metrics import OperatorMetrics
from r1_operator.plan.scaling.decide import fixed
from r1_operator.plan.snapshot import Defaults


def route(namespace: str, name: str, aliases: tuple[str, ...], created: str) -> Json:
    document = {"namespace": namespace, "name": name, "models": [name, *aliases]}
    metadata = {"namespace": namespace, "name": f"{name}-route", "creationTimestamp": created}
    return {"metadata": metadata, "data": {"route.json": json.dumps(document)}}


def second(number: int) -> str:
    return f"2027-01-15T08:00:{number:02d}Z"


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("backwards", [False, True])
def test_the_name_index_is_independent_of_the_order(case: Case, backwards: bool) -> None:
    routes = [route(*one, second(n)) for n, one in enumerate(case.resources)]
    index = NameIndex()
    for one in reversed(routes) if backwards else routes:
        index.update(one)
    for namespace, name, _ in case.resources:
        key = Key(namespace, name)
        assert index.conflicts(key) == case.lost.get(str(key), {})


NAMES = st.sampled_from(["x", "y", "x-a"])
SPACES = st.sampled_from(["a", "b"])
ALIASES = st.lists(st.sampled_from(["x", "y", "x-a", "chat", "a/x", "b/y"]), max_size=3).map(tuple)
STEP = st.tuples(SPACES, NAMES, st.one_of(st.none(), ALIASES), st.integers(0, 2))


@given(st.lists(STEP, max_size=14))
def test_the_name_index_equals_the_gateway_table_after_any_history(steps: list[Any]) -> None:
    index, live = NameIndex(), dict[Key, Json]()
    known: dict[Key, dict[str, str]] = {}
    for namespace, name, aliases, created in steps:
        key = Key(namespace, name)
        if aliases is None:
            live.pop(key, None)
            touched = index.remove(key)
        else:
            live[key] = route(namespace, name, aliases, second(created))
            touched = index.update(live[key])
        by_age = sorted(
            live.values(),
            key=lambda one: age_key(
                one["metadata"]["creationTimestamp"],
                f"{one['metadata']['namespace']}/{one['metadata']['name']}",
            ),
        )
        documents = [json.loads(one["data"]["route.json"]) for one in by_age]
        table = resolve(
            NameClaim(f"{one['namespace']}/{one['name']}", tuple(one["models"]))
            for one in documents
        )
        now = {
            one: {name: table.owners[name] for name in table.conflicts.get(str(one), ())}
            for one in live
        }
        for one in live:
            assert index.conflicts(one) == now[one]
            if one != key and known.get(one, {}) != now[one]:
                assert one in touched, "what changed has to be looked at again"
        known = now


class World:
    """A reconciler with an in-process API server; enqueued resources are reconciled."""

    warming_up = False

    def __init__(self, server: FakeApiServer, api: Api) -> None:
        self.server, self.api = server, api
        self.events: list[EventSpec] = []
        self.queue: list[Key] = []
        self.stores = Stores()
        self.restart()

    def restart(self) -> None:
        """A new process with the same stores."""
        scaling: Any = self
        self.reconciler = Reconciler(
            self.api,
            self.stores,
            scaling,
            defaults=Defaults(runtime_image="runtime:1"),
            has_service_monitors=lambda: False,
            enqueue=self.queue.append,
            emit=self.events.append,
            metrics=OperatorMetrics(),
        )

    def register(self, key: Key, resource: Any) -> None:
        """The interface of the scaling loop."""

    def current_decision(self, key: Key) -> Any:
        """The interface of the scaling loop."""
        return fixed(1, 1, 1_800_000_000.0)

    def forget(self, key: Key) -> None:
        """The interface of the scaling loop."""

    async def make(self, namespace: str, name: str, *aliases: str) -> Key:
        """Create or change a resource, and reconcile all enqueued resources."""
        key = Key(namespace, name)
        path = R1INFERENCE.path(*key)
        obj = {
            "apiVersion": "deepseek.ai/v1",
            "kind": "R1Inference",
            "metadata": {"name": name},
            "spec": {"model": {"aliases": list(aliases)}},
            "status": self.server.objects.get(path, {}).get("status", {}),
        }
        self.stores.put(R1INFERENCE, self.server.put(path, obj))
        await self.settle(key)
        return key

    async def remove(self, key: Key) -> None:
        """Delete a resource."""
        self.stores.remove(R1INFERENCE, self.server.objects[R1INFERENCE.path(*key)])
        await self.settle(key)

    async def settle(self, *keys: Key) -> None:
        """Reconcile these resources and all enqueued ones."""
        self.queue += keys
        while self.queue:
            await self.reconciler.reconcile(self.queue.pop(0), 0.0)

    def condition(self, key: Key, kind: str = "ModelNameConflict") -> Json:
        """A condition of the stored status; {} if it is absent."""
        conditions = self.server.objects[R1INFERENCE.path(*key)]["status"]["conditions"]
        return next((one for one in conditions if one["type"] == kind), {})


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with fake_api_server() as server, client_of(server) as api:
        yield World(server, api)


async def test_a_taken_model_name_returns_to_its_owner_and_is_reported(world: World) -> None:
    thief = await world.make("team-b", "x", "production-r1")
    assert world.condition(thief) == {}, "nobody else claims it yet"
    owner = await world.make("team-a", "production-r1")
    conflict = world.condition(thief)
    assert (conflict["status"], conflict["reason"]) == ("True", "AliasTaken")
    assert "production-r1 routes to team-a/production-r1" in conflict["message"]
    assert world.condition(owner) == {}
    assert [one.reason for one in world.events if one.warning] == ["AliasTaken"]
    await world.remove(owner)
    assert world.condition(thief) == {}


async def test_the_newer_of_two_equal_names_reports_its_full_name(world: World) -> None:
    old = await world.make("team-a", "r1")
    young = await world.make("team-b", "r1", "chat")
    conflict = world.condition(young)
    assert conflict["reason"] == "NameTaken"
    assert "Use team-b/r1 as the model name" in conflict["message"]
    assert world.condition(old) == {}
    writes = world.server.sent("PATCH", "/")
    world.restart()
    await world.settle(young, old)
    await world.settle(old, young)
    assert world.server.sent("PATCH", "/") == writes, "a restart writes nothing"
    await world.make("team-a", "r1", "chat")
    assert "chat routes to team-a/r1" in world.condition(young)["message"]


async def test_an_unreadable_route_claims_no_names() -> None:
    index = NameIndex()
    for data in ({}, {"route.json": "x"}, {"route.json": "[]"}, {"route.json": '{"name": 3}'}):
        assert index.update({"metadata": {"name": "x", "namespace": "a"}, "data": data}) == set()
    assert index.conflicts(Key("a", "x")) == {}

"""The operator when it dies, when it is not told, and when the API server says no.

Three patterns of controller bugs, as in the Sieve study (OSDI '22): an intermediate state that a
crash leaves behind, an unobserved state, and errors at any request. Each must end where a run
without the fault ends.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kubernetes.aio.client import Configuration
from kubernetes.aio.config import load_kube_config

from r1_bench.operator_scale.testbed import QUICK, operating, resource, until
from r1_operator.kube.client import Api, RetryPolicy, Unreachable
from r1_operator.kube.kinds import (
    CONFIG_MAP,
    DEPLOYMENT,
    EVENT,
    POD_DISRUPTION_BUDGET,
    R1INFERENCE,
    SERVICE,
    Json,
    Key,
)
from r1_operator.settings import OperatorSettings

pytestmark = pytest.mark.apiserver

SPEC: Json = {
    "replicas": 3,
    "runtime": {"maxConcurrentSequences": 16},
    "template": {"metadata": {"annotations": {"team": "a"}}},
}
CHANGED: Json = {"spec": {"replicas": 5, "runtime": {"maxConcurrentSequences": 32}}}


class FaultyApi(Api):
    """A client whose process or network fails as a test says."""

    writes_until_crash: int | None = None
    away: bool = False
    answers: Callable[[str], int | None] = staticmethod(lambda _: None)
    """A status to answer a method with instead of asking the server, or None."""

    async def request(self, method: str, path: str, **options: Any) -> Json:
        if self.crashed and method != "GET":
            raise Unreachable("this process is dead")
        answer = await super().request(method, path, **options)
        if method != "GET" and f"/{EVENT.plural}" not in path and self.writes_until_crash:
            self.writes_until_crash -= 1
        return answer

    @property
    def crashed(self) -> bool:
        return self.writes_until_crash == 0

    async def _send(self, method: str, *rest: Any) -> tuple[int, float | None, bytes]:
        if self.away:
            raise ConnectionRefusedError("the API server is away")
        status = self.answers(method)
        if status is not None:
            return status, None, b'{"message": "injected", "reason": "Injected"}'
        return await super()._send(method, *rest)


async def faulty(kubeconfig: Path) -> FaultyApi:
    """A client of this kind with impatient retries."""
    configuration = type.__call__(Configuration)
    await load_kube_config(config_file=str(kubeconfig), client_configuration=configuration)
    return FaultyApi(configuration, retry=RetryPolicy(base_seconds=0.05))


async def end_state(api: Api, key: Key) -> dict[str, Any]:
    """What was asked of every child and said in the status, without what differs by nature."""
    names = {DEPLOYMENT: key.name, SERVICE: key.name, POD_DISRUPTION_BUDGET: key.name}
    state: dict[str, Any] = {}
    for kind, name in {**names, CONFIG_MAP: f"{key.name}-route"}.items():
        stored = await api.get(kind, key.namespace, name)
        if stored is None:
            return {}
        content = {k: v for k, v in stored.items() if k not in ("metadata", "status")}
        for volatile in ("clusterIP", "clusterIPs"):
            content.get("spec", {}).pop(volatile, None)
        metadata = stored["metadata"]
        annotations = metadata.get("annotations", {})
        state[kind.name] = (content, metadata["labels"], sorted(annotations))
    stored = await api.get(R1INFERENCE, *key)
    status = (stored or {}).get("status") or {}
    conditions = {one["type"]: one["reason"] for one in status.get("conditions", ())}
    state["status"] = (conditions, status.get("desiredReplicas"), status.get("observedGeneration"))
    return state


async def make(api: Api, key: Key) -> None:
    """Create the resource."""
    await api.create(R1INFERENCE, key.namespace, resource(key.name, key.namespace, **SPEC))


async def change(api: Api, key: Key) -> None:
    """Edit it."""
    await api.request(
        "PATCH",
        R1INFERENCE.path(*key),
        body=CHANGED,
        content_type="application/merge-patch+json",
    )


def same(state: dict[str, Any]) -> str:
    """States compared as text, names of resources taken out."""
    return repr(sorted(state.items()))


async def until_settled_at(api: Api, key: Key, generation: int) -> dict[str, Any]:
    """Wait until status and Deployment are of this generation and nothing changes any more.

    The status speaks of a generation before its children are applied, where one of them fails.
    """
    wanted = {1: SPEC["replicas"], 2: CHANGED["spec"]["replicas"]}[generation]

    async def settled() -> dict[str, Any] | None:
        before = await end_state(api, key)
        if not before or before["status"][2] != generation:
            return None
        if before["Deployment"][0]["spec"]["replicas"] != wanted:
            return None
        await asyncio.sleep(0.5)
        return before if await end_state(api, key) == before else None

    status: dict[str, Any] = await until(settled, f"{key} at generation {generation}")
    return status


@pytest.fixture
def settings(namespace: str) -> OperatorSettings:
    """An operator of this namespace that finds lost events within two seconds."""
    return replace(QUICK, namespaces=(namespace,), relist_seconds=2.0)


async def test_a_crash_after_any_write_ends_where_no_crash_ends(
    api: Api, apiserver: Path, namespace: str, settings: OperatorSettings
) -> None:
    key = Key(namespace, "model")
    references: list[str] = []
    longest = 0
    for first in (True, False):
        await (make(api, key) if first else change(api, key))
        async with await faulty(apiserver) as own, operating(settings, own):
            state = await until_settled_at(api, key, 1 if first else 2)
            references.append(same(state))
            longest = max(longest, own.log.writes)
    for writes in range(1, longest + 1):
        await api.delete(R1INFERENCE, *key)
        for kind, name in (
            (DEPLOYMENT, key.name),
            (SERVICE, key.name),
            (POD_DISRUPTION_BUDGET, key.name),
            (CONFIG_MAP, f"{key.name}-route"),
        ):
            await api.delete(kind, namespace, name)  # the garbage collector's part
        await make(api, key)
        for generation in (1, 2):
            if generation == 2:
                await change(api, key)
            async with await faulty(apiserver) as own, operating(settings, own):
                own.writes_until_crash = writes
                for _ in range(100):
                    await asyncio.sleep(0.05)
                    if own.crashed:
                        break
            async with await faulty(apiserver) as own, operating(settings, own):
                state = await until_settled_at(api, key, generation)
                assert same(state) == references[generation - 1], f"crash after write {writes}"


async def test_without_watch_events_a_relist_finds_every_change(
    api: Api,
    apiserver: Path,
    namespace: str,
    settings: OperatorSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def deaf(*_: Any, **options: Any) -> None:
        await options["stop"].wait()

    monkeypatch.setattr("r1_operator.controller.manager.watch", deaf)
    monkeypatch.setattr("r1_operator.controller.watch.relist._GRACE_SECONDS", 0.5)
    key = Key(namespace, "unheard")
    async with await faulty(apiserver) as own, operating(settings, own) as operation:
        await make(api, key)
        await until_settled_at(api, key, 1)
        await change(api, key)
        state = await until_settled_at(api, key, 2)
        assert state["Deployment"][0]["spec"]["replicas"] == 5
        await api.delete(SERVICE, *key)

        async def made_again() -> Any:
            return await api.get(SERVICE, *key)

        await until(made_again, "the deleted Service")
        assert operation.liveness.failure() is not None, "a silent watch fails the liveness probe"
        await api.delete(R1INFERENCE, *key)

        async def forgotten() -> bool:
            return operation.stores.resources.get(key) is None

        await until(forgotten, "the deleted resource")


@pytest.mark.parametrize("status", [409, 429, 500, 503])
async def test_errors_at_every_third_request_only_slow_things_down(
    api: Api, apiserver: Path, namespace: str, settings: OperatorSettings, status: int
) -> None:
    rng = random.Random(status)
    key = Key(namespace, "slowed")
    async with await faulty(apiserver) as own:

        def answer(method: str) -> int | None:
            injected = rng.random() < 0.33 and (status != 409 or method != "GET")
            return status if injected else None

        own.answers = answer
        async with operating(settings, own):
            await make(api, key)
            await until_settled_at(api, key, 1)
            await change(api, key)
            state = await until_settled_at(api, key, 2)
            assert state["Deployment"][0]["spec"]["replicas"] == 5


async def test_an_api_server_that_is_away_is_waited_for(
    api: Api, apiserver: Path, namespace: str, settings: OperatorSettings
) -> None:
    key = Key(namespace, "patient")
    async with await faulty(apiserver) as own, operating(settings, own) as operation:
        await make(api, key)
        await until_settled_at(api, key, 1)
        own.away = True
        await change(api, key)
        await asyncio.sleep(4)
        assert operation.liveness.failure() is None, "a restart would not help"
        own.away = False
        state = await until_settled_at(api, key, 2)
        assert state["Deployment"][0]["spec"]["replicas"] == 5

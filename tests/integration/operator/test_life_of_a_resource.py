"""From manifest to children to status, on a real API server."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from r1_bench.operator_scale.testbed import (
    QUICK,
    connect,
    operating,
    play_deployment_controller,
    resource,
    until,
)
from r1_operator.kube.client import Api
from r1_operator.kube.kinds import (
    CONFIG_MAP,
    DEPLOYMENT,
    POD_DISRUPTION_BUDGET,
    R1INFERENCE,
    SERVICE,
    Json,
    Key,
    Kind,
)
from r1_operator.settings import OperatorSettings

pytestmark = pytest.mark.apiserver

VERBATIM: Json = {
    "replicas": 4,
    "resources": {
        "limits": {"nvidia.com/gpu": 1},
        "requests": {"cpu": "2", "memory": "8Gi"},
    },
    "autoscaling": {
        "minReplicas": 2,
        "maxReplicas": 10,
        "metrics": [{"type": "RequestsPerSecond", "target": 1000}],
    },
}
CHILDREN = (
    (DEPLOYMENT, "{}"),
    (SERVICE, "{}"),
    (POD_DISRUPTION_BUDGET, "{}"),
    (CONFIG_MAP, "{}-route"),
)


@pytest.fixture
def settings(namespace: str) -> OperatorSettings:
    """An operator of this test's namespace alone."""
    return replace(QUICK, namespaces=(namespace,))


async def make(api: Api, key: Key, **spec: Any) -> Json:
    """Create the resource."""
    return await api.create(R1INFERENCE, key.namespace, resource(key.name, key.namespace, **spec))


async def patch(api: Api, kind: Kind, key: Key, body: Json, subresource: str | None = None) -> Json:
    """A merge patch, as kubectl would send it."""
    return await api.request(
        "PATCH",
        kind.path(*key, subresource),
        body=body,
        content_type="application/merge-patch+json",
    )


async def find(api: Api, kind: Kind, key: Key) -> Json:
    """The object, which exists."""
    stored = await api.get(kind, *key)
    assert stored is not None, f"{kind.name} {key}"
    return stored


def replicas_are(api: Api, key: Key, count: int) -> Any:
    """A condition to wait for."""

    async def check() -> bool:
        stored = await api.get(DEPLOYMENT, *key)
        return stored is not None and stored["spec"]["replicas"] == count

    return check


def condition_is(api: Api, key: Key, name: str, status: str, reason: str | None = None) -> Any:
    """A condition to wait for; gives the condition."""

    async def check() -> Json | None:
        stored = await find(api, R1INFERENCE, key)
        for one in stored.get("status", {}).get("conditions", ()):
            good = one["type"] == name and one["status"] == status
            if good and reason in (None, one["reason"]):
                return dict(one)
        return None

    return check


async def test_the_verbatim_manifest_becomes_its_children(
    api: Api, apiserver: Path, namespace: str, settings: OperatorSettings
) -> None:
    key = Key(namespace, "production-r1")
    made = await make(api, key, **VERBATIM)
    async with await connect(apiserver) as own, operating(settings, own):
        await until(replicas_are(api, key, 4), "the Deployment")
        await until(condition_is(api, key, "Ready", "False"), "a status")
        for kind, name in CHILDREN:
            child = await find(api, kind, Key(namespace, name.format(key.name)))
            assert child["metadata"]["labels"]["deepseek.ai/r1inference"] == key.name
            (owner,) = child["metadata"]["ownerReferences"]
            assert owner["uid"] == made["metadata"]["uid"], "the garbage collector will find it"
            assert owner["controller"] is True
            assert "finalizers" not in child["metadata"]
        pod = (await find(api, DEPLOYMENT, key))["spec"]["template"]["spec"]
        engine = next(one for one in pod["containers"] if one["name"] == "engine")
        assert engine["resources"]["limits"] == {"nvidia.com/gpu": "1"}
        assert engine["resources"]["requests"]["cpu"] == "2"
        assert engine["resources"]["requests"]["memory"] == "8Gi"
        route = await find(api, CONFIG_MAP, Key(namespace, "production-r1-route"))
        assert json.loads(route["data"]["route.json"])["models"] == ["production-r1"]
        inference = await find(api, R1INFERENCE, key)
        assert "finalizers" not in inference["metadata"]
        assert not inference["metadata"].get("annotations"), (
            "the operator writes nothing but status"
        )
        assert inference["status"]["observedGeneration"] == 1
        assert inference["status"]["desiredReplicas"] == 4
        assert inference["status"]["selector"] == "deepseek.ai/r1inference=production-r1"


async def test_a_settled_resource_costs_no_write_and_neither_does_a_restart(
    api: Api, apiserver: Path, namespace: str, settings: OperatorSettings
) -> None:
    keys = [Key(namespace, "auto"), Key(namespace, "manual")]
    await make(api, keys[0], **VERBATIM)
    await make(api, keys[1], replicas=2)
    async with await connect(apiserver) as own, operating(settings, own):
        for key in keys:
            await until(replicas_are(api, key, 4 if key.name == "auto" else 2), "Deployment")
            await play_deployment_controller(api, key)
        await until(condition_is(api, keys[0], "ScalingActive", "False"), "a decision")
        await asyncio.sleep(3)
        before = own.log.writes
        await patch(api, R1INFERENCE, keys[1], {"metadata": {"annotations": {"note": "x"}}})
        await patch(api, SERVICE, keys[1], {"metadata": {"annotations": {"note": "x"}}})
        await asyncio.sleep(4)
        assert own.log.writes == before, list(own.log.recent)[-5:]
    async with await connect(apiserver) as own, operating(settings, own) as again:
        await until(_set(again), "settled again")
        await asyncio.sleep(3)
        assert own.log.writes == 0, [one for one in own.log.recent if one.is_write]


def _set(operation: Any) -> Any:
    async def check() -> bool:
        return bool(operation.synced.is_set())

    return check


async def test_edits_reach_the_children_and_removed_fields_leave_them(
    api: Api, apiserver: Path, namespace: str, settings: OperatorSettings
) -> None:
    key = Key(namespace, "edited")
    node = {"template": {"spec": {"nodeSelector": {"disk": "fast"}}}}
    await make(api, key, replicas=1, **node)

    async def selector() -> Any:
        deployment = await api.get(DEPLOYMENT, *key)
        return deployment and deployment["spec"]["template"]["spec"].get("nodeSelector", "none")

    async with await connect(apiserver) as own, operating(settings, own):
        assert await until(selector, "the Deployment") == {"disk": "fast"}
        await patch(api, R1INFERENCE, key, {"spec": {"replicas": 3}}, "scale")
        await until(replicas_are(api, key, 3), "kubectl scale")
        await patch(api, R1INFERENCE, key, {"spec": {"template": None}})

        async def gone() -> bool:
            return bool(await selector() == "none")

        await until(gone, "the removed field is gone from the Deployment")


async def test_foreign_edits_of_our_fields_are_undone_and_foreign_fields_stay(
    api: Api, apiserver: Path, namespace: str, settings: OperatorSettings
) -> None:
    key = Key(namespace, "repaired")
    await make(api, key, replicas=2)
    async with await connect(apiserver) as own, operating(settings, own):
        await until(replicas_are(api, key, 2), "the Deployment")
        theirs = {"metadata": {"annotations": {"theirs": "1"}}, "spec": {"replicas": 9}}
        await patch(api, DEPLOYMENT, key, theirs)
        await until(replicas_are(api, key, 2), "the count is put back")
        repaired = await find(api, DEPLOYMENT, key)
        assert repaired["metadata"]["annotations"]["theirs"] == "1"
        await api.delete(SERVICE, *key)

        async def service() -> Any:
            return await api.get(SERVICE, *key)

        await until(service, "the Service is made again")
        label = "deepseek.ai/r1inference"
        await patch(api, DEPLOYMENT, key, {"metadata": {"labels": {label: None}}})

        async def labelled() -> bool:
            return label in (await find(api, DEPLOYMENT, key))["metadata"]["labels"]

        await until(labelled, "a stripped label is put back")


async def test_from_bad_to_good_leaves_no_trace(
    api: Api, apiserver: Path, namespace: str, settings: OperatorSettings
) -> None:
    key = Key(namespace, "mended")
    await make(api, key, replicas=1)
    async with await connect(apiserver) as own, operating(settings, own):
        await until(replicas_are(api, key, 1), "the Deployment")
        bad = {"template": {"spec": {"terminationGracePeriodSeconds": -5}}}
        await patch(api, R1INFERENCE, key, {"spec": bad})
        degraded = await until(
            condition_is(api, key, "Degraded", "True", "ChildRejected"), "the refusal", seconds=30
        )
        assert "terminationGracePeriodSeconds" in degraded["message"]
        await patch(api, R1INFERENCE, key, {"spec": {"template": None}})

        async def mended() -> bool:
            status = (await find(api, R1INFERENCE, key))["status"]
            return all(one["type"] != "Degraded" for one in status["conditions"])

        await until(mended, "Degraded is gone")
        await play_deployment_controller(api, key)


async def test_a_strangers_object_is_left_alone_and_named(
    api: Api, apiserver: Path, namespace: str, settings: OperatorSettings
) -> None:
    key = Key(namespace, "taken")
    theirs = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": key.name},
        "spec": {"ports": [{"port": 80}], "selector": {"app": "theirs"}},
    }
    await api.create(SERVICE, namespace, theirs)
    await make(api, key, replicas=1)
    async with await connect(apiserver) as own, operating(settings, own):
        degraded = await until(
            condition_is(api, key, "Degraded", "True", "ChildNotOwned"), "the stranger", seconds=30
        )
        assert "Service taken" in degraded["message"]
        service = await find(api, SERVICE, key)
        assert service["spec"]["selector"] == {"app": "theirs"}
        assert await api.get(DEPLOYMENT, *key) is None
        await api.delete(SERVICE, *key)
        await until(replicas_are(api, key, 1), "it is made when the stranger has gone", seconds=60)


async def test_a_restart_keeps_the_count_that_it_finds(
    api: Api, apiserver: Path, namespace: str, settings: OperatorSettings
) -> None:
    key = Key(namespace, "kept")
    await make(api, key, **VERBATIM)
    async with await connect(apiserver) as own, operating(settings, own):
        await until(replicas_are(api, key, 4), "the Deployment")
    await patch(api, DEPLOYMENT, key, {"spec": {"replicas": 7}})  # as if decided under load
    async with await connect(apiserver) as own, operating(settings, own) as operation:
        await until(_set(operation), "settled")
        for _ in range(8):
            await asyncio.sleep(0.5)
            assert (await find(api, DEPLOYMENT, key))["spec"]["replicas"] == 7
        newest = operation.decision_history.of(key)[-1]
        assert newest["replicas"] == 7
        assert newest["reason"] == "MetricsUnavailable"


async def test_deleting_stops_the_work(
    api: Api, apiserver: Path, namespace: str, settings: OperatorSettings
) -> None:
    key = Key(namespace, "gone")
    await make(api, key, **VERBATIM)
    async with await connect(apiserver) as own, operating(settings, own) as operation:
        await until(replicas_are(api, key, 4), "the Deployment")
        await api.delete(R1INFERENCE, *key)

        async def forgotten() -> bool:
            return operation.stores.resources.get(key) is None

        await until(forgotten, "the view forgets it")
        assert await api.get(R1INFERENCE, *key) is None, "no finalizer holds it"
        await api.delete(DEPLOYMENT, *key)  # what the garbage collector would do
        await asyncio.sleep(2)
        assert await api.get(DEPLOYMENT, *key) is None, "nothing is made for what is gone"

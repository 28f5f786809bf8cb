"""The count falls, and the pod that goes is the one that does nothing.

The API server is real, in the last story the Deployment and ReplicaSet controllers are too; what a
kubelet would say of the pods is written by the test. What the gateway knows comes from a fake one.
"""

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from aiohttp import web

from r1_bench.operator_scale.testbed import QUICK, connect, operating, resource, until
from r1_cluster import providers
from r1_cluster.programs.binaries import ensure_binaries
from r1_operator.api.names import POD_DELETION_COST, Label
from r1_operator.controller.scaling.pod_deletion_costs import MANAGER
from r1_operator.kube.client import Api
from r1_operator.kube.kinds import DEPLOYMENT, POD, R1INFERENCE, Json, Key

pytestmark = pytest.mark.apiserver


@dataclass
class FakeGateway:
    """A gateway whose `/signals` names the pods and what each has in flight."""

    url: str = ""
    route: str = ""
    in_flight: dict[str, int] = field(default_factory=dict)

    async def signals(self, _: web.Request) -> web.Response:
        by_class = ("offeredRequests", "offeredTokens", "completed", "failed", "rejected",
                    "cancelled", "queued", "oldestWaitSeconds")  # fmt: skip
        figures: Json = {name: {"Q2": 0} for name in by_class}
        figures |= {
            "inFlight": {"Q2": sum(self.in_flight.values())},
            "inFlightByEndpoint": {f"{ip}:8000": count for ip, count in self.in_flight.items()},
            "queuedWithoutEndpoints": 0,
            "seats": 24,
            "readyEndpoints": len(self.in_flight),
        }
        now = time.time()
        body = {
            "gateway": "gw-0",
            "startedAt": now - 60,
            "at": now,
            "routes": {self.route: figures},
        }
        return web.json_response(body)


@pytest.fixture
async def gateway() -> AsyncIterator[FakeGateway]:
    """The fake, served."""
    fake = FakeGateway()
    app = web.Application()
    app.router.add_get("/signals", fake.signals)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    fake.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield fake
    await runner.cleanup()


async def say_ready(api: Api, namespace: str, name: str, address: str) -> None:
    """What a kubelet says of a pod that serves."""
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    status = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
              "conditions": [ready]}  # fmt: skip
    await api.request(
        "PATCH",
        POD.path(namespace, name, "status"),
        body={"status": status},
        content_type="application/merge-patch+json",
    )


async def make_pod(api: Api, owner: Key, name: str, address: str) -> None:
    """A ready model pod, as the ReplicaSet controller and a kubelet would leave it."""
    labels = {Label.RESOURCE.value: owner.name, "pod-template-hash": "1"}
    manifest: Json = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": owner.namespace, "labels": labels},
        "spec": {"containers": [{"name": "engine", "image": "engine"}]},
    }
    await api.create(POD, owner.namespace, manifest)
    await say_ready(api, owner.namespace, name, address)


async def costs(api: Api, owner: Key, *names: str) -> list[str | None]:
    """The deletion costs of the pods, as the ReplicaSet controller would read them."""
    pods = [await api.get(POD, owner.namespace, name) for name in names]
    metadata = [pod["metadata"] for pod in pods if pod is not None]
    return [(each.get("annotations") or {}).get(POD_DELETION_COST) for each in metadata]


async def test_the_idle_pod_is_named_before_the_count_falls(
    api: Api, apiserver: Path, namespace: str, gateway: FakeGateway
) -> None:
    key = Key(namespace, "busy")
    gateway.route = str(key)
    gateway.in_flight = {"10.9.0.1": 3, "10.9.0.2": 0, "10.9.0.3": 1}
    names = ("busy-1", "busy-2", "busy-3")
    settings = replace(QUICK, namespaces=(namespace,), gateway_urls=(gateway.url,))
    await api.create(R1INFERENCE, namespace, resource(key.name, namespace, replicas=3))

    async def wanted(count: int) -> None:
        await api.request(
            "PATCH",
            R1INFERENCE.path(*key, "scale"),
            body={"spec": {"replicas": count}},
            content_type="application/merge-patch+json",
        )

        async def has_replicas() -> bool:
            deployment = await api.get(DEPLOYMENT, *key)
            return deployment is not None and deployment["spec"]["replicas"] == count

        await until(has_replicas, f"{count} replicas")

    async with await connect(apiserver) as own, operating(settings, own) as operation:

        async def exists() -> bool:
            return await api.get(DEPLOYMENT, *key) is not None

        await until(exists, "the Deployment")
        for name, address in zip(names, gateway.in_flight, strict=True):
            await make_pod(api, key, name, address)

        async def observed() -> bool:
            return [pod.ready for pod in operation.stores.pods.of(key)] == [True] * 3

        await until(observed, "three pods in view")
        await wanted(2)
        assert await costs(api, key, *names) == [None, "-1", None]
        writes = [one.path for one in own.log.recent if one.is_write and "status" not in one.path]
        assert writes[-2:] == [POD.path(namespace, "busy-2"), DEPLOYMENT.path(*key)], (
            "in this order"
        )

        marked = await api.get(POD, namespace, "busy-2")
        assert marked is not None
        ours = [m for m in marked["metadata"]["managedFields"] if m["manager"] == MANAGER]
        assert [list(m["fieldsV1"]["f:metadata"]) for m in ours] == [["f:annotations"]]

        await asyncio.sleep(2)  # settled: load that shifts is no reason to write
        before = own.log.writes
        gateway.in_flight = {"10.9.0.1": 0, "10.9.0.2": 5, "10.9.0.3": 1}
        await asyncio.sleep(3)
        assert own.log.writes == before, list(own.log.recent)[-5:]

        # The marked pod stayed (nobody here deletes it) and took work: another one goes now.
        await wanted(3)
        assert await costs(api, key, *names) == [None, "-1", None], "a rise marks nobody"
        await wanted(2)
        assert await costs(api, key, *names) == ["-1", None, None]


async def test_a_gateway_that_is_silent_does_not_hold_up_the_fall(
    api: Api, apiserver: Path, namespace: str
) -> None:
    key = Key(namespace, "alone")
    settings = replace(QUICK, namespaces=(namespace,), gateway_urls=("http://127.0.0.1:9/",))
    await api.create(R1INFERENCE, namespace, resource(key.name, namespace, replicas=2))
    async with await connect(apiserver) as own, operating(settings, own):

        async def has_replicas(count: int) -> bool:
            deployment = await api.get(DEPLOYMENT, *key)
            return deployment is not None and deployment["spec"]["replicas"] == count

        await until(lambda: has_replicas(2), "the Deployment")
        for number in (1, 2):
            await make_pod(api, key, f"alone-{number}", f"10.9.1.{number}")
        await api.request(
            "PATCH",
            R1INFERENCE.path(*key),
            body={"spec": {"replicas": 1}},
            content_type="application/merge-patch+json",
        )
        await until(lambda: has_replicas(1), "the fall")
        assert await costs(api, key, "alone-1", "alone-2") == [None, None]


@pytest.fixture
def replica_sets(apiserver: Path, tmp_path: Path) -> Iterator[None]:
    """The controllers that make and delete the pods of a Deployment; a given cluster has its own."""
    if providers.given_kubeconfig() is not None:
        yield
        return
    program = ensure_binaries(("kube-controller-manager",))["kube-controller-manager"]
    flags = ["--controllers=deployment-controller,replicaset-controller", "--leader-elect=false",
             "--secure-port=0", f"--kubeconfig={apiserver}"]  # fmt: skip
    with (
        (tmp_path / "controllers.log").open("wb") as log,
        subprocess.Popen([program, *flags], stdout=log, stderr=log) as process,
    ):
        yield
        process.kill()


async def test_the_replica_set_controller_deletes_the_idle_pods_and_no_busy_one(
    api: Api, apiserver: Path, namespace: str, gateway: FakeGateway, replica_sets: None
) -> None:
    key = Key(namespace, "real")
    gateway.route = str(key)
    settings = replace(QUICK, namespaces=(namespace,), gateway_urls=(gateway.url,))
    await api.create(R1INFERENCE, namespace, resource(key.name, namespace, replicas=6))

    async def pods() -> list[Json]:
        answer = await api.request("GET", POD.path(namespace))
        return [pod for pod in answer["items"] if "deletionTimestamp" not in pod["metadata"]]

    async def made() -> list[Json]:
        created = await pods()
        return created if len(created) == 6 else []

    async with await connect(apiserver) as own, operating(settings, own) as operation:
        six_pods = await until(made, "six pods")
        busy = set()
        # By its own rules the controller would take the youngest, or any: those are busy here.
        for number, pod in enumerate(sorted(six_pods, key=lambda one: one["metadata"]["name"])):
            name, address = pod["metadata"]["name"], f"10.9.2.{number}"
            target = {"apiVersion": "v1", "kind": "Node", "name": "nowhere"}
            binding = {"metadata": {"name": name}, "target": target}
            await api.request("POST", POD.path(namespace, name, "binding"), body=binding)
            await say_ready(api, namespace, name, address)
            gateway.in_flight[address] = number % 2 * 3
            if number % 2:
                busy.add(name)

        async def observed() -> bool:
            return all(pod.ready for pod in operation.stores.pods.of(key))

        await until(observed, "six ready pods in view")
        await asyncio.sleep(1)  # one round of the signals
        await api.request(
            "PATCH",
            R1INFERENCE.path(*key),
            body={"spec": {"replicas": 3}},
            content_type="application/merge-patch+json",
        )

        async def fallen() -> bool:
            return len(await pods()) == 3

        await until(fallen, "three pods are left")
        assert {pod["metadata"]["name"] for pod in await pods()} == busy

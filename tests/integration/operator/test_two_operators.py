"""One acts, one stands by: real processes, a real Lease, kill -9."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from r1_bench.operator_scale.testbed import resource, until
from r1_cluster.control_plane.controlplane import free_ports
from r1_operator.kube.client import Api
from r1_operator.kube.kinds import DEPLOYMENT, LEASE, R1INFERENCE, Key

pytestmark = pytest.mark.apiserver

LEASE_SECONDS = 6


@contextlib.asynccontextmanager
async def operators(
    kubeconfig: Path, namespace: str, folder: Path, count: int
) -> AsyncIterator[dict[str, tuple[asyncio.subprocess.Process, int]]]:
    """Operator processes by identity, each with its port."""
    environment = os.environ | {"KUBECONFIG": str(kubeconfig)}
    running: dict[str, tuple[asyncio.subprocess.Process, int]] = {}
    with contextlib.ExitStack() as stack:
        for number, port in enumerate(free_ports(count)):
            log = stack.enter_context((folder / f"operator-{number}.log").open("wb"))
            flags = ["--namespace", namespace, "--own-namespace", namespace]
            flags += ["--http-host", "127.0.0.1", "--http-port", str(port)]
            flags += ["--lease-seconds", str(LEASE_SECONDS), "--renew-seconds", "1.5"]
            identity = f"operator-{number}"
            command = [sys.executable, "-m", "r1_operator", "run", *flags, "--identity", identity]
            running[identity] = (
                await asyncio.create_subprocess_exec(*command, env=environment, stderr=log),
                port,
            )
        try:
            yield running
        finally:
            for process, _ in running.values():
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()


async def holder(api: Api, namespace: str) -> str | None:
    """The identity that holds the Lease, without the process' own suffix."""
    lease = await api.get(LEASE, namespace, "r1-operator")
    identity = (lease or {}).get("spec", {}).get("holderIdentity", "")
    return str(identity).rpartition("_")[0] or None


async def ready_says(port: int) -> str:
    """The body of `/readyz`."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/readyz") as response,
    ):
        assert response.status == 200
        return (await response.text()).strip()


async def test_the_standby_takes_over_from_one_that_was_killed(
    api: Api, apiserver: Path, namespace: str, tmp_path: Path
) -> None:
    async def make(name: str) -> None:
        body = resource(name, namespace, replicas=1)
        await api.create(R1INFERENCE, namespace, body)

        async def made() -> object:
            return await api.get(DEPLOYMENT, *Key(namespace, name))

        await until(made, f"the Deployment of {name}")

    async def held() -> str | None:
        return await holder(api, namespace)

    async with operators(apiserver, namespace, tmp_path, 2) as running:
        first = await until(held, "somebody leads")
        (second,) = set(running) - {first}
        await make("before")

        async def both_ready() -> bool:
            says = set()
            with contextlib.suppress(aiohttp.ClientConnectionError):  # one may not listen yet
                says = {await ready_says(port) for _, port in running.values()}
            return says == {"active", "standby"}

        await until(both_ready, "one is active and one stands by")
        process, _ = running[first]
        process.send_signal(signal.SIGKILL)
        killed = time.monotonic()

        async def taken_over() -> bool:
            return await holder(api, namespace) == second

        await until(taken_over, "the standby leads", seconds=30)
        await make("after")
        assert time.monotonic() - killed < 60
        assert await ready_says(running[second][1]) == "active"


async def test_an_operator_exits_without_its_lease_and_releases_it_when_stopped(
    api: Api, apiserver: Path, namespace: str, tmp_path: Path
) -> None:
    async def held() -> str | None:
        return await holder(api, namespace)

    async with operators(apiserver, namespace, tmp_path, 1) as running:
        await until(held, "it leads")
        (process, _) = running["operator-0"]
        await api.request(
            "PATCH",
            LEASE.path(namespace, "r1-operator"),
            body={"spec": {"holderIdentity": "somebody-else_1"}},
            content_type="application/merge-patch+json",
        )
        assert await asyncio.wait_for(process.wait(), 30) == 1
    await api.delete(LEASE, namespace, "r1-operator")
    async with operators(apiserver, namespace, tmp_path, 1) as running:
        await until(held, "it leads")
        (process, _) = running["operator-0"]
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 30) == 0
        assert await holder(api, namespace) is None, "the next one need not wait"

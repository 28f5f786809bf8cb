"""Cost of the operator with 1,000 and 10,000 resources on a real API server.

`python -m r1_bench.operator_scale [--count 1000,10000]`

Measurements, as after a restart and under changes:

- *start to settled*: from the start of the operator's process until every resource is reconciled,
  without a write to any of them (checked in its metrics);
- *change to Deployment*: from the response to a change of `spec.replicas` until the Deployment with the
  new count is applied, through API server, watch, queue and plan: p50 and p99 of spaced changes;
- *CPU of the start*: user and system time of the operator's process until it has settled. It depends
  less on other load of the machine than wall time does;
- *memory*: the peak RSS of the operator's process.

A first operator creates the children of all resources. The measured operator is a second process that
starts afterwards. Half of the resources autoscale. No gateway runs, so every decision has missing metrics
and keeps the count.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp

from r1_bench.operator_scale.testbed import (
    QUICK,
    connect,
    install_crd,
    make_namespace,
    operating,
    until,
)
from r1_bench.operator_scale.testbed import resource as inference
from r1_bench.rows import BenchmarkRow, write
from r1_cluster.control_plane.controlplane import control_plane
from r1_operator.kube.client import Api
from r1_operator.kube.kinds import DEPLOYMENT, R1INFERENCE, Key

NAMESPACE_SIZE = 500
CHANGES = 200
_SPACING_SECONDS = 0.1
_FIRST_OPERATOR = replace(QUICK, decision_seconds=2.0, relist_seconds=300.0)
"""The first operator decides and relists rarely, because this delays the creation of children."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Result for one number of resources; times and CPU in seconds, memory in MB."""

    settled: float
    cpu: float
    writes: int
    change_p50: float
    change_p99: float
    rss: float


def keys(count: int) -> list[Key]:
    """Return the keys of the resources, 500 per namespace."""
    return [Key(f"team-{n // NAMESPACE_SIZE}", f"model-{n}") for n in range(count)]


async def create_resources(api: Api, count: int) -> None:
    """Create the missing ones of `count` resources, over 32 connections."""
    existing = {
        Key(item["metadata"]["namespace"], item["metadata"]["name"])
        async for page in api.list_pages(R1INFERENCE, metadata_only=True)
        for item in page["items"]
    }
    missing = [key for key in keys(count) if key not in existing]
    for namespace in dict.fromkeys(key.namespace for key in missing):
        with contextlib.suppress(Exception):
            await make_namespace(api, namespace)

    async def create(key: Key, number: int) -> None:
        spec: dict[str, Any] = {
            "replicas": 2,
            "resources": {"limits": {"nvidia.com/gpu": 1}, "requests": {"cpu": "2"}},
        }
        if number % 2:
            metrics = [{"type": "RequestsPerSecond", "target": 10}]
            spec["autoscaling"] = {"minReplicas": 1, "maxReplicas": 4, "metrics": metrics}
        await api.create(R1INFERENCE, key.namespace, inference(key.name, key.namespace, **spec))

    await asyncio.gather(*(create(key, n) for n, key in enumerate(missing)))


async def settle(kubeconfig: Path, count: int) -> None:
    """Run an operator until it has created all children, and stop it."""
    api = await connect(kubeconfig, max_concurrent=32)
    async with api, operating(_FIRST_OPERATOR, api) as operation:
        await until(_true_of(operation.synced.is_set), "settled", seconds=1800, pause=0.5)

        async def quiet() -> bool:
            before = api.log.writes
            await asyncio.sleep(5.0)
            return before == api.log.writes and len(operation.stores.resources) >= count

        await until(quiet, "quiet", seconds=600)


def _true_of(function: Any) -> Any:
    async def check() -> Any:
        return function()

    return check


@contextlib.asynccontextmanager
async def operator_process(
    kubeconfig: Path, log: Path
) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """Start the operator as a separate process; yields it and its port."""
    port = random.randrange(20_000, 30_000)  # noqa: S311
    environment = os.environ | {"KUBECONFIG": str(kubeconfig)}
    flags = ["--http-port", str(port), "--lease-seconds", "15", "--lease-name", f"scale-{port}"]
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "r1_operator", "run", *flags, env=environment, stderr=out
        )
        try:
            yield process, port
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            await process.wait()


async def measure(kubeconfig: Path, count: int, folder: Path) -> Measured:
    """One run of the measured operator."""
    log = folder / f"operator-{count}.log"
    async with await connect(kubeconfig) as api:
        started = time.monotonic()
        async with operator_process(kubeconfig, log) as (process, port):

            async def settled() -> bool:
                if process.returncode is not None:
                    raise RuntimeError(f"the operator ended: {log.read_text()[-2000:]}")
                return "all R1Inferences are reconciled" in log.read_text()

            await until(settled, "the measured operator has settled", seconds=600)
            seconds, cpu = time.monotonic() - started, _cpu_seconds(process.pid)
            text = log.read_text()
            stored = int(text.split("stores are complete: ")[1].split(" ", 1)[0])
            if stored != count:
                raise AssertionError(f"the stores have {stored} of {count} resources")
            await asyncio.sleep(20)  # after the warm-up, when statuses are compared again
            writes = await _writes_to_resources(port)
            times = sorted(await _changes(api, count))
            rss = _peak_rss_mb(process.pid)
    return Measured(
        seconds,
        cpu,
        writes,
        times[len(times) // 2],
        times[min(len(times) - 1, round(0.99 * len(times)))],
        rss,
    )


async def _writes_to_resources(port: int) -> int:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/metrics") as response,
    ):
        lines = (await response.text()).splitlines()
    return round(
        sum(float(line.rsplit(" ", 1)[1]) for line in lines if "r1_operator_writes_total{" in line)
    )


async def _changes(api: Api, count: int) -> list[float]:
    """Return the seconds from a change of the spec to its Deployment, as another watch sees it."""
    manual = [key for n, key in enumerate(keys(count)) if n % 2 == 0]
    chosen = random.Random(0).sample(manual, min(CHANGES, len(manual)))  # noqa: S311
    waiting: dict[Key, float] = {}
    times: list[float] = []
    listening = asyncio.Event()

    async def listen() -> None:
        async for key, replicas in _watch_deployments(api, listening):
            if replicas == 3 and key in waiting:
                times.append(time.monotonic() - waiting.pop(key))

    listener = asyncio.create_task(listen())
    await listening.wait()
    try:
        for key in chosen:
            waiting[key] = time.monotonic()
            await api.request(
                "PATCH",
                R1INFERENCE.path(*key),
                body={"spec": {"replicas": 3}},
                content_type="application/merge-patch+json",
            )
            await asyncio.sleep(_SPACING_SECONDS)
        await until(_true_of(lambda: not waiting), "every change arrived", seconds=60)
    finally:
        listener.cancel()
        await asyncio.gather(listener, return_exceptions=True)
    for key in chosen:
        await api.request(
            "PATCH",
            R1INFERENCE.path(*key),
            body={"spec": {"replicas": 2}},
            content_type="application/merge-patch+json",
        )
    await asyncio.sleep(5)
    return times


async def _watch_deployments(api: Api, listening: asyncio.Event) -> AsyncIterator[tuple[Key, int]]:
    """Yield changes of all Deployments from the raw watch, which needs little CPU."""
    page = await api.request("GET", DEPLOYMENT.path(), query={"limit": "1"})
    version = page["metadata"]["resourceVersion"]
    response = await api.stream(
        DEPLOYMENT.path(), {"watch": "true", "resourceVersion": version, "timeoutSeconds": "600"}
    )
    listening.set()
    async for line in response.content:
        obj = json.loads(line)["object"]
        yield Key(obj["metadata"]["namespace"], obj["metadata"]["name"]), obj["spec"]["replicas"]


def _cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    ticks = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def _peak_rss_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


async def bench(kubeconfig: Path, counts: list[int], folder: Path) -> list[BenchmarkRow]:
    """Return the rows of all counts, smallest first."""
    rows = []
    for count in sorted(counts):
        print(f"{count:,} resources: creating their children", file=sys.stderr, flush=True)
        async with await connect(kubeconfig, max_concurrent=32) as api:
            await install_crd(api)
            await create_resources(api, count)
        await settle(kubeconfig, count)
        print(f"{count:,} resources: measuring", file=sys.stderr, flush=True)
        result = await measure(kubeconfig, count, folder)
        name = f"{count:,} resources"
        rows += [
            BenchmarkRow(f"{name}: start to settled", "s", result.settled, bar=60.0),
            BenchmarkRow(f"{name}: operator's CPU, start to settled", "s CPU", result.cpu),
            BenchmarkRow(f"{name}: writes to settled resources", "writes", result.writes, bar=0.0),
            BenchmarkRow(f"{name}: change to Deployment p50", "s", result.change_p50),
            BenchmarkRow(f"{name}: change to Deployment p99", "s", result.change_p99, bar=1.0),
            BenchmarkRow(f"{name}: peak RSS", "MB", result.rss, bar=500.0),
        ]
    return rows


def main() -> int:
    """Run on the cluster of `--kubeconfig`, or on a new API server."""
    parser = argparse.ArgumentParser(prog="python -m r1_bench.operator_scale", description=__doc__)
    parser.add_argument("--count", default="1000,10000", help="resources, separated by commas")
    parser.add_argument(
        "--kubeconfig", type=Path, help="use this cluster instead of a new API server"
    )
    options = parser.parse_args()
    counts = [int(count) for count in options.count.split(",")]
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="r1-scale-")))
        kubeconfig = options.kubeconfig or stack.enter_context(control_plane()).kubeconfig
        rows = asyncio.run(bench(kubeconfig, counts, folder))
    write("operator_scale", rows)
    return 0 if all(row.ok is not False for row in rows) else 1

"""Helpers of the end-to-end tests: wait for a condition, generate load, kill a process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from r1_cluster.cluster import LocalCluster
from r1_cluster.providers import Cluster
from r1_demo.load.arrivals import ScheduledRequest
from r1_demo.load.load_generator import RequestOutcome, read_outcomes, write_schedule
from r1_demo.setup.cluster_setup import SCRAPE_SECONDS
from r1_demo.setup.installation import Installation
from recurring_ramp import shape

MODELS = "models"
"""Namespace of the resources of the tests."""
VERBATIM = "production-r1"
"""Resource of the README's manifest, in the namespace default."""
SHOP = "shop"
"""Namespace of a Deployment without an R1Inference."""
SHOP_SEASON, SHOP_STEP = 120.0, 2.0
# The lead time covers the HPA's sync period of 15 s and the start of a pod.
_SHOP_DEMAND = shape("shop_demand", SHOP_SEASON, SHOP_STEP, lead=40.0)
PUBLISHED: list[dict[str, Any]] = [
    _SHOP_DEMAND | {"namespace": SHOP, "name": "demand-ahead"},
    # The same series without the forecast, as a plain HPA reads it.
    _SHOP_DEMAND | {"namespace": SHOP, "name": "demand-now", "activation": "Advisory"},
]
"""The chart's value forecaster.published."""


def chart_values(node: dict[str, str]) -> dict[str, Any]:
    """Chart values of every installation: all components on the labelled node, all ports enabled."""
    values: dict[str, Any] = {
        part: {"nodeSelector": node} for part in ("operator", "gateway", "forecaster", "backtest")
    }
    # As in the demo: rates over four scrapes, one every two seconds. The default window of one
    # minute would smooth out a ramp of half a minute.
    window = {"name": "R1_MIN_RATE_SECONDS", "value": str(round(4 * SCRAPE_SECONDS))}
    values["operator"]["extraEnv"] = [window]
    values["serviceMonitor"] = {"interval": f"{SCRAPE_SECONDS:.0f}s"}
    values["forecaster"] |= {
        "keda": {"enabled": True},
        "externalMetrics": {"enabled": True},
        "published": PUBLISHED,
    }
    return values


def wait_for(what: str, seconds: float, check: Callable[[], Any]) -> Any:
    """Call `check` twice per second; return its first truthy result, or fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        answer = check()
        if answer:
            return answer
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.5)


def ready(installation: Installation, name: str, seconds: float = 120) -> None:
    """Wait for the condition Ready by `kubectl wait`."""
    wait = ("wait", "--for=condition=Ready", f"r1/{name}", "-n", MODELS)
    installation.kubectl(*wait, f"--timeout={seconds:.0f}s")


def deployment(installation: Installation, name: str) -> dict[str, Any]:
    """The Deployment of a resource."""
    manifest: dict[str, Any] = installation.get("deployment", name, "-n", MODELS)
    return manifest


@dataclass(slots=True)
class Load:
    """An open-loop load generator in a separate process."""

    process: subprocess.Popen[bytes]
    results: Path

    def outcomes(self) -> list[RequestOutcome]:
        """Outcomes of the requests that have ended so far."""
        return read_outcomes(self.results)[0] if self.results.exists() else []

    def finish(self, seconds: float = 180) -> list[RequestOutcome]:
        """Wait for the last request; return all outcomes."""
        assert self.process.wait(timeout=seconds) == 0
        return self.outcomes()


@contextmanager
def load(
    url: str, arrivals: Sequence[ScheduledRequest], folder: Path, starts_at: float
) -> Iterator[Load]:
    """Send `arrivals` to the gateway, starting at the Unix time `starts_at`."""
    schedule, results = folder / "schedule.jsonl", folder / "results.jsonl"
    write_schedule(schedule, arrivals)
    argv = [sys.executable, "-m", "r1_demo.load.load_generator", "--url", url, "--schedule",
            str(schedule), "--results", str(results), "--starts-at", str(starts_at)]  # fmt: skip
    process = subprocess.Popen(argv)
    try:
        yield Load(process, results)
    finally:
        process.kill()
        process.wait()


def pids(cluster: Cluster, program: str) -> list[int]:
    """Process ids on this machine of `program` in the pods of the local cluster."""
    assert isinstance(cluster, LocalCluster)
    matching = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().split(b"\0")
            group = (folder / "cgroup").read_text()
        except OSError:
            continue
        if program.encode() in command and cluster.settings.cgroup in group:
            matching.append(int(folder.name))
    return matching


def kill(pid: int) -> None:
    """Send SIGKILL."""
    os.kill(pid, signal.SIGKILL)


def verbatim_pods(installation: Installation) -> list[dict[str, Any]]:
    """The pods of the README's manifest without a deletionTimestamp."""
    selector = f"deepseek.ai/r1inference={VERBATIM}"
    items = installation.get("pods", "-n", "default", "-l", selector)["items"]
    return [pod for pod in items if "deletionTimestamp" not in pod["metadata"]]

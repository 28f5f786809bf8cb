"""The manifest of the README, verbatim, on nodes that simulate GPUs.

The pods run nowhere (kwok says they are ready), so the load at the gateway is answered by
refusals; what counts is that offered load alone moves the count, between the manifest's bounds.
"""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e_story import wait_for
from r1_cluster.cluster import LocalCluster
from r1_cluster.providers import Cluster
from r1_cluster.simulated_nodes import add_kwok_nodes
from r1_demo.installation import Installation

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parents[2]
NAME = "production-r1"


def verbatim() -> str:
    """The first manifest of the README."""
    [manifest] = re.findall(r"```yaml\n(apiVersion.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    return str(manifest)


@pytest.fixture(scope="module")
def simulated(installation: Installation, cluster: Cluster) -> Iterator[Installation]:
    """Two nodes with eight GPUs each, that every pod may land on."""
    assert isinstance(cluster, LocalCluster), "simulated nodes need the local cluster's kwok"
    nodes = add_kwok_nodes(cluster.kubectl, 2, gpus=8, taint=False, first=100)
    yield installation
    installation.kubectl("delete", "r1", NAME, "--ignore-not-found", "--timeout=60s")
    installation.kubectl("delete", "node", *nodes, "--timeout=60s")


def pods(installation: Installation) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = installation.get("pods", "-l", f"deepseek.ai/r1inference={NAME}")[
        "items"
    ]
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


def desired(installation: Installation) -> int:
    status = installation.get("r1", NAME).get("status", {})
    return int(status.get("desiredReplicas", -1))


def test_four_pods_with_one_gpu_each(simulated: Installation) -> None:
    simulated.kubectl("apply", "-f", "-", stdin=verbatim())
    wait_for("four pods run", 90, lambda: len(
        [pod for pod in pods(simulated) if pod["status"]["phase"] == "Running"]) == 4)  # fmt: skip
    for pod in pods(simulated):
        [engine] = [each for each in pod["spec"]["containers"] if each["name"] == "engine"]
        resources = engine["resources"]
        assert resources["limits"]["nvidia.com/gpu"] == "1"
        assert resources["requests"] == {"cpu": "2", "memory": "8Gi", "nvidia.com/gpu": "1"}


def test_no_load_brings_it_to_the_minimum(simulated: Installation) -> None:
    """Not before the five minutes of the default window, and never below minReplicas."""
    wait_for("the count falls", 420, lambda: desired(simulated) == 2)
    wait_for("two pods are left", 60, lambda: len(pods(simulated)) == 2)


def test_load_raises_it_and_the_maximum_holds(simulated: Installation) -> None:
    """Far more than ten replicas' worth is offered: 429 is an answer, and counts as demand."""
    address = simulated.service_address("gateway")
    with socket.create_connection((address, 80), timeout=10):
        pass
    script = ROOT / "tests/e2e/offer.lua"
    argv = ["wrk", "-t1", "-c800", "-d60s", "-s", str(script), f"http://{address}/v1/completions"]
    offering = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    seen: list[int] = []

    def raised() -> bool:
        seen.append(desired(simulated))
        return seen[-1] > 4

    try:
        wait_for("the count rises with the load", 60, raised)
        offering.wait(timeout=120)
        seen.append(desired(simulated))
    finally:
        offering.kill()
    assert max(seen) <= 10
    assert len(pods(simulated)) <= 10

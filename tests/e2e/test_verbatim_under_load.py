"""The README's manifest scales between its bounds: two replicas without load, at most ten under load.

The pods do not run, so the gateway rejects the requests; the offered load alone changes the replicas.
"""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest

from e2e_helpers import VERBATIM, verbatim_pods, wait_for
from r1_cluster.programs.debian import ensure_packages
from r1_demo.setup.installation import Installation

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

OFFER = Path(__file__).with_name("offer.lua")


def desired(installation: Installation) -> int:
    status = installation.get("r1", VERBATIM).get("status", {})
    return int(status.get("desiredReplicas", -1))


def test_readme_manifest_scales_to_the_minimum_without_load(simulated: Installation) -> None:
    """After the default window of five minutes, and never below minReplicas."""
    wait_for("the count falls", 420, lambda: desired(simulated) == 2)
    wait_for("two pods are left", 60, lambda: len(verbatim_pods(simulated)) == 2)


def test_readme_manifest_scales_up_to_the_maximum_under_load(simulated: Installation) -> None:
    """The load exceeds ten replicas; requests that get 429 count as demand."""
    ensure_packages({"wrk": "wrk"})
    address = simulated.service_address("gateway")
    with socket.create_connection((address, 80), timeout=10):
        pass
    argv = ["wrk", "-t1", "-c800", "-d60s", "-s", str(OFFER), f"http://{address}/v1/completions"]
    offering = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
    counts: list[int] = []

    def raised() -> bool:
        counts.append(desired(simulated))
        return counts[-1] > 4

    try:
        wait_for("the count rises with the load", 60, raised)
        offering.wait(timeout=120)
        counts.append(desired(simulated))
    finally:
        offering.kill()
        offering.wait()
    assert max(counts) <= 10
    assert len(verbatim_pods(simulated)) <= 10

"""The verbatim manifest between its bounds: no load brings it to two, much load to ten at most.

The pods run nowhere, so the load at the gateway is answered by refusals; what counts is that
offered load alone moves the count.
"""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest

from e2e_helpers import VERBATIM, verbatim_pods, wait_for
from r1_cluster.debian import ensure_packages
from r1_demo.installation import Installation

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

OFFER = Path(__file__).with_name("offer.lua")


def desired(installation: Installation) -> int:
    status = installation.get("r1", VERBATIM).get("status", {})
    return int(status.get("desiredReplicas", -1))


def test_readme_manifest_scales_to_the_minimum_without_load(simulated: Installation) -> None:
    """Not before the five minutes of the default window, and never below minReplicas."""
    wait_for("the count falls", 420, lambda: desired(simulated) == 2)
    wait_for("two pods are left", 60, lambda: len(verbatim_pods(simulated)) == 2)


def test_readme_manifest_scales_up_to_the_maximum_under_load(simulated: Installation) -> None:
    """Far more than ten replicas' worth is offered: 429 is an answer, and counts as demand."""
    ensure_packages({"wrk": "wrk"})
    address = simulated.service_address("gateway")
    with socket.create_connection((address, 80), timeout=10):
        pass
    argv = ["wrk", "-t1", "-c800", "-d60s", "-s", str(OFFER), f"http://{address}/v1/completions"]
    offering = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
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
        offering.wait()
    assert max(seen) <= 10
    assert len(verbatim_pods(simulated)) <= 10

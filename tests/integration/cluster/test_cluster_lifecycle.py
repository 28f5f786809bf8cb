"""Two clusters do not meet, and `down` leaves nothing of one that was killed, pods and all."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from r1_cluster import cluster as local
from r1_cluster.node import cgroups
from r1_cluster.node.node_files import PAUSE_IMAGE
from r1_cluster.providers import Cluster
from r1_cluster.settings import ClusterSettings, cgroup_name, state_folder
from r1_cluster.waiting import wait_until

pytestmark = pytest.mark.cluster

NAME = "r1-test-neighbour"


def output(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def remains(name: str, settings: ClusterSettings) -> dict[str, list[str]]:
    """Return what of a cluster is still on this machine, by kind."""
    folder, cgroup = str(state_folder(name)), cgroup_name(name)
    processes = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (entry / "cmdline").read_bytes().decode(errors="replace")
            # A zombie has no command line: its parent, the host's first process, reaps it.
            if command and (folder in command or cgroup in (entry / "cgroup").read_text()):
                processes.append(command)
    mounts = [
        line for line in Path("/proc/self/mountinfo").read_text().splitlines() if folder in line
    ]
    addresses = settings.addresses
    links = [line for line in output("ip", "-brief", "link").splitlines() if addresses.link in line]
    prefix = addresses.network.split(".0.0/")[0] + "."
    routes = [line for line in output("ip", "route").splitlines() if prefix in line]
    leftovers = {
        "processes": processes,
        "mounts": mounts,
        "links": links,
        "routes": routes,
        "cgroups": [str(path) for path in cgroups.folders(cgroup)],
        "folders": [folder] if Path(folder).exists() else [],
    }
    return {kind: entries for kind, entries in leftovers.items() if entries}


def iptables() -> str:
    lines = output("iptables-save").splitlines()
    return "\n".join(line for line in lines if not line.startswith("#"))


@pytest.fixture(scope="module")
def rules_before() -> str:
    return iptables()


@pytest.fixture(scope="module")
def neighbour(cluster: Cluster, rules_before: str) -> Iterator[local.LocalCluster]:
    """Boot a second local cluster beside the session's, with one pod on it."""
    if not isinstance(cluster, local.LocalCluster):
        pytest.skip("only the local cluster is ours to boot twice and to kill")
    running = local.up(NAME, prometheus=False)
    try:
        running.kubectl("run", "sleeper", f"--image={PAUSE_IMAGE}", "--restart=Never")
        running.kubectl("wait", "--for=condition=Ready", "pod/sleeper", "--timeout=90s")
        yield running
    finally:
        local.down(NAME)


def test_two_clusters_run_side_by_side(
    cluster: local.LocalCluster, neighbour: local.LocalCluster
) -> None:
    assert cluster.is_healthy()
    assert neighbour.is_healthy()
    assert cluster.settings.addresses.network != neighbour.settings.addresses.network
    assert "sleeper" not in cluster.kubectl("get", "pods", "-A")
    assert "sleeper" in neighbour.kubectl("get", "pods", "-A")


def test_a_terminated_process_is_restarted(neighbour: local.LocalCluster) -> None:
    before = neighbour.processes()["kube-scheduler"]
    os.kill(before, signal.SIGKILL)
    wait_until(
        lambda: neighbour.processes().get("kube-scheduler", before) != before,
        lambda: "kube-scheduler stayed away",
        30,
    )


def test_down_after_a_crash_leaves_nothing(
    cluster: local.LocalCluster, neighbour: local.LocalCluster, rules_before: str
) -> None:
    everything = cgroups.processes(cgroup_name(NAME))
    assert len(everything) > 10  # the node's programs, shims, the pod
    assert set(remains(NAME, neighbour.settings)) >= {"processes", "links", "cgroups", "folders"}
    for pid in everything:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    local.down(NAME)
    assert remains(NAME, neighbour.settings) == {}
    assert iptables() == rules_before
    assert local.find(NAME) is None
    assert cluster.is_healthy()


def test_down_without_a_cluster_succeeds() -> None:
    local.down("r1-test-never-was")

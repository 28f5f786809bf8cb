"""etcd and kube-apiserver alone: the API server answers, stores, and says who asked."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from r1_cluster.control_plane.controlplane import ControlPlane, control_plane
from r1_cluster.programs.binaries import ensure_binaries

pytestmark = pytest.mark.apiserver


def kubectl(kubeconfig: Path, *arguments: str) -> str:
    program = ensure_binaries(("kubectl",))["kubectl"]
    argv = [str(program), "--kubeconfig", str(kubeconfig), *arguments]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def test_a_stored_object_is_readable(apiserver: Path) -> None:
    kubectl(apiserver, "create", "configmap", "kept", "--from-literal=key=value")
    try:
        stored = json.loads(kubectl(apiserver, "get", "configmap", "kept", "-o", "json"))
        assert stored["data"] == {"key": "value"}
    finally:
        kubectl(apiserver, "delete", "configmap", "kept")


def test_the_server_reports_its_version(apiserver: Path) -> None:
    answer = json.loads(kubectl(apiserver, "version", "-o", "json"))
    assert answer["serverVersion"]["major"] == "1"
    assert not answer["serverVersion"]["gitVersion"].startswith("v0.0.0")


def test_each_request_is_in_the_audit_log(local_control_plane: ControlPlane) -> None:
    kubectl(local_control_plane.kubeconfig, "get", "configmaps", "-n", "kube-public")
    entries = [json.loads(line) for line in local_control_plane.audit_log.read_text().splitlines()]
    assert any(
        entry["requestURI"].startswith("/api/v1/namespaces/kube-public") for entry in entries
    )


def test_two_run_side_by_side_and_leave_nothing(local_control_plane: ControlPlane) -> None:
    with control_plane() as other:
        assert other.server != local_control_plane.server
        assert "default" in kubectl(other.kubeconfig, "get", "namespaces")
        folder = other.folder
    assert not folder.exists()
    command_lines = [
        path.read_bytes()
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if path.exists()
    ]  # fmt: skip
    assert not any(str(folder).encode() in line for line in command_lines)

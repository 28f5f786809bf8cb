"""Helm on a real API server: upgrades keep the certificate, and the API of another adapter stays."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from r1_cluster.control_plane.controlplane import ControlPlane, control_plane
from r1_cluster.programs.binaries import ensure_binaries

pytestmark = pytest.mark.apiserver

CHART = Path(__file__).resolve().parents[3] / "helm" / "r1-operator"
API = "v1beta1.external.metrics.k8s.io"
ON = ("--set", "forecaster.externalMetrics.enabled=true,imageRegistry=registry.example")


@pytest.fixture
def plane() -> Iterator[ControlPlane]:
    """A separate control plane, because a broken APIService would affect other tests."""
    with control_plane() as running:
        yield running


def run(plane: ControlPlane, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [str(ensure_binaries((program,))[program]), "--kubeconfig", str(plane.kubeconfig)]
    return subprocess.run([*argv, *arguments], capture_output=True, text=True, check=False)


def helm(plane: ControlPlane, verb: str, *settings: str) -> None:
    where = ("-n", "r1-system", "--create-namespace") if verb == "install" else ("-n", "r1-system")
    done = run(plane, "helm", verb, "r1", str(CHART), *where, *settings)
    assert done.returncode == 0, done.stderr


def stored(plane: ControlPlane) -> tuple[dict[str, Any], str]:
    """The data of the Secret and the CA bundle of the APIService."""
    secret = run(
        plane, "kubectl", "get", "secret", "r1-forecaster-tls", "-n", "r1-system", "-ojson"
    )
    api = run(plane, "kubectl", "get", "apiservice", API, "-ojson")
    return json.loads(secret.stdout)["data"], json.loads(api.stdout)["spec"]["caBundle"]


def test_upgrades_keep_the_certificate(plane: ControlPlane) -> None:
    helm(plane, "install", *ON)
    data, bundle = stored(plane)
    assert data["ca.crt"] == bundle
    helm(plane, "upgrade", *ON, "--set", "forecaster.logLevel=debug")
    assert stored(plane) == (data, bundle)


def test_an_existing_metrics_adapter_keeps_its_api_service(plane: ControlPlane) -> None:
    adapter = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": API},
        "spec": {
            "group": "external.metrics.k8s.io",
            "version": "v1beta1",
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "insecureSkipTLSVerify": True,
            "service": {"name": "keda-operator-metrics-apiserver", "namespace": "keda"},
        },
    }
    program = ensure_binaries(("kubectl",))["kubectl"]
    argv = [str(program), "--kubeconfig", str(plane.kubeconfig), "create", "-f", "-"]
    subprocess.run(argv, input=json.dumps(adapter), text=True, check=True, capture_output=True)
    done = run(
        plane, "helm", "install", "r1", str(CHART), "-n", "r1-system", "--create-namespace", *ON
    )
    assert done.returncode != 0
    assert API in done.stderr
    api_service = json.loads(run(plane, "kubectl", "get", "apiservice", API, "-ojson").stdout)
    assert api_service["spec"]["service"]["namespace"] == "keda"

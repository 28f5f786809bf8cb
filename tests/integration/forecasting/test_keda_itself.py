"""KEDA's own operator and adapter with the forecaster, where they are installed.

KEDA is nobody's dependency here and takes minutes to build, so this story runs only where `R1_KEDA`
names a folder with its programs `operator` and `adapter` and its CRDs in `crds/` (from a checkout of
kedacore/keda: `go build -o operator ./cmd/operator`, the same for adapter, `config/crd/bases`).
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from r1_cluster.control_plane import certificates
from r1_cluster.control_plane.controlplane import (
    ControlPlane,
    control_plane,
    controllers,
    free_ports,
)
from r1_cluster.programs.binaries import ensure_binaries
from recurring_ramp import (
    BUSY,
    QUIET,
    SEASON,
    SHAPE,
    demand,
    forecaster,
    is_ready,
    prometheus,
    wait_for,
)

KEDA = os.environ.get("R1_KEDA")
pytestmark = [
    pytest.mark.apiserver,
    pytest.mark.skipif(KEDA is None, reason="R1_KEDA names no folder with KEDA's programs"),
]

CONTROLLERS = (
    "deployment-controller",
    "replicaset-controller",
    "horizontal-pod-autoscaler-controller",
)
TARGET = 5
HOST = "localhost"


def kubectl(plane: ControlPlane, *arguments: str, stdin: str | None = None) -> str:
    program = ensure_binaries(("kubectl",))["kubectl"]
    argv = [str(program), "--kubeconfig", str(plane.kubeconfig), *arguments]
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def apply(plane: ControlPlane, *manifests: dict[str, Any]) -> None:
    kubectl(plane, "apply", "--server-side", "-f", "-", stdin=yaml.safe_dump_all(manifests))


@contextmanager
def running(argv: list[str], log: Path, environment: dict[str, str]) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *argv],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | environment,
        )
    try:
        yield
        assert process.poll() is None, log.read_text()[-3000:]
    finally:
        process.kill()
        process.wait()


def keda_keys(folder: Path) -> Path:
    """The folder that KEDA's parts show each other, as its certificate rotation would make it."""
    folder.mkdir()
    authority = certificates.create_authority(folder, "ca")
    names = (f"DNS:{HOST}", "IP:127.0.0.1")
    pair = certificates.issue(folder, "tls", authority, user="keda", alternative_names=names)
    assert pair.certificate.name == "tls.crt"
    return folder


def metrics_api(port: int) -> list[dict[str, Any]]:
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "keda"}},
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": HOST, "namespace": "keda"},
            "spec": {"type": "ExternalName", "externalName": HOST},
        },
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": "v1beta1.external.metrics.k8s.io"},
            "spec": {
                "group": "external.metrics.k8s.io",
                "version": "v1beta1",
                "groupPriorityMinimum": 100,
                "versionPriority": 100,
                "insecureSkipTLSVerify": True,
                "service": {"name": HOST, "namespace": "keda", "port": port},
            },
        },
    ]


def workload(keda_port: int) -> list[dict[str, Any]]:
    labels = {"app": "orders"}
    container = {"name": "app", "image": "example.invalid/app:1"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    metadata = {key: str(value) for key, value in SHAPE.items()} | {
        "scalerAddress": f"127.0.0.1:{keda_port}",
        "threshold": str(TARGET),
        "activationThreshold": str(2 * QUIET),
    }
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "orders", "namespace": "shop"},
            "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": template},
        },
        {
            "apiVersion": "keda.sh/v1alpha1",
            "kind": "ScaledObject",
            "metadata": {"name": "orders", "namespace": "shop"},
            "spec": {
                "scaleTargetRef": {"name": "orders"},
                "minReplicaCount": 0,
                "maxReplicaCount": 10,
                "triggers": [{"type": "external-push", "metadata": metadata}],
            },
        },
    ]


def test_keda_wakes_and_scales_a_deployment_before_its_load(tmp_path: Path) -> None:
    assert KEDA is not None
    folder = Path(KEDA)
    port, keda_port, service_port, api_port, *others = free_ports(8)
    keys = keda_keys(tmp_path / "keys")
    with ExitStack() as stack:
        plane = stack.enter_context(control_plane())
        quick = ["--horizontal-pod-autoscaler-sync-period=2s"]
        stack.enter_context(controllers(plane, CONTROLLERS, quick))
        url = stack.enter_context(prometheus())
        flags = ["--port", str(port), "--keda-port", str(keda_port), "--prometheus-url", url]
        stack.enter_context(forecaster(flags, tmp_path / "forecaster.log"))
        kubectl(plane, "apply", "--server-side", "-f", str((folder / "crds").resolve()))
        apply(plane, *metrics_api(api_port))
        environment = {"KUBECONFIG": str(plane.kubeconfig), "POD_NAMESPACE": "keda"}
        environment |= {"WATCH_NAMESPACE": "", "KEDA_CLUSTER_OBJECT_NAMESPACE": "keda"}
        operator = [
            str(folder / "operator"),
            f"--metrics-bind-address=127.0.0.1:{others[0]}",
            f"--health-probe-bind-address=127.0.0.1:{others[1]}",
            f"--metrics-service-bind-address=127.0.0.1:{service_port}",
            f"--cert-dir={keys}",
            "--enable-webhook-patching=false",
            "--enable-apiservice-patching=false",
        ]
        stack.enter_context(running(operator, tmp_path / "operator.log", environment))
        adapter = [
            str(folder / "adapter"),
            f"--port={others[2]}",
            f"--secure-port={api_port}",
            f"--cert-dir={keys}",
            f"--tls-cert-file={keys}/tls.crt",
            f"--tls-private-key-file={keys}/tls.key",
            f"--metrics-service-address=127.0.0.1:{service_port}",
            f"--metrics-service-grpc-authority={HOST}",
            f"--lister-kubeconfig={plane.kubeconfig}",
            f"--authentication-kubeconfig={plane.kubeconfig}",
            f"--authorization-kubeconfig={plane.kubeconfig}",
        ]
        stack.enter_context(running(adapter, tmp_path / "adapter.log", environment))
        wait_for(lambda: is_ready(port), 60, "the forecaster is ready")
        woken, scaled = story(plane, keda_port)
    print(f"phase of the minute: woken {woken % SEASON:.1f} s, scaled {scaled % SEASON:.1f} s")
    assert demand(woken) == QUIET, "woken while it is still quiet"
    assert demand(scaled) == QUIET, "and at full size before the load as well"


def story(plane: ControlPlane, keda_port: int) -> tuple[float, float]:
    """When the Deployment had its first replica, and when it had all that the load needs."""

    def available() -> bool:
        name = "v1beta1.external.metrics.k8s.io"
        api = json.loads(kubectl(plane, "get", "apiservice", name, "-o", "json"))
        conditions = api.get("status", {}).get("conditions", [])
        return any(c["type"] == "Available" and c["status"] == "True" for c in conditions)

    wait_for(available, 120, "KEDA's adapter serves external metrics")
    # Begin right after a busy time: the next thing that happens is the forecast of the next one.
    wait_for(lambda: 0.82 <= (time.time() % SEASON) / SEASON < 0.9, 2 * SEASON, "the quiet begins")
    apply(plane, *workload(keda_port))

    def replicas() -> int:
        deployment = json.loads(
            kubectl(plane, "get", "deployment", "orders", "-n", "shop", "-o", "json")
        )
        return int(deployment["spec"].get("replicas", 0))

    wait_for(lambda: replicas() >= 1, 2 * SEASON, "KEDA wakes the Deployment")
    woken = time.time()
    wait_for(lambda: replicas() >= BUSY / TARGET, 2 * SEASON, "the HPA of KEDA scales it")
    return woken, time.time()

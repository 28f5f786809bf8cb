"""The real HPA controller scales a plain Deployment on the forecast, before the load is there.

etcd, kube-apiserver and the real kube-controller-manager run without a node: pods stay pending, and
an HPA that divides an external metric by a target per replica does not mind. The aggregator, its
client certificate, the chart's APIService, certificate and RoleBinding, the forecaster's process and
the rights of the HPA's own service account are those of any cluster; only the Service is of type
ExternalName, because nothing here routes to a pod.
"""

from __future__ import annotations

import base64
import json
import math
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

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
    Risings,
    forecaster,
    is_ready,
    prometheus,
    wait_for,
)

pytestmark = pytest.mark.apiserver

CHART = Path(__file__).resolve().parents[3] / "helm" / "r1-operator"
SYSTEM, SHOP = "r1-system", "shop"
API = "v1beta1.external.metrics.k8s.io"
ROOT = "/apis/external.metrics.k8s.io/v1beta1"
CONTROLLERS = (
    "deployment-controller",
    "replicaset-controller",
    "horizontal-pod-autoscaler-controller",
)
TARGET = 5
PUBLISHED: list[dict[str, Any]] = [
    SHAPE | {"namespace": SHOP, "name": "demand-ahead"},
    # The same series without the forecast's help: what a plain HPA would see.
    SHAPE | {"namespace": SHOP, "name": "demand-now", "activation": "Advisory"},
    SHAPE | {"namespace": SHOP, "name": "nothing-there", "query": "no_such_metric"},
]


@dataclass(frozen=True, slots=True)
class Stage:
    """A control plane with the forecaster behind its aggregator."""

    plane: ControlPlane
    forecaster: str
    """URL of the port for the operator."""

    def kubectl(
        self, *arguments: str, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        program = ensure_binaries(("kubectl",))["kubectl"]
        argv = [str(program), "--kubeconfig", str(self.plane.kubeconfig), *arguments]
        return subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)

    def do(self, *arguments: str, stdin: str | None = None) -> str:
        done = self.kubectl(*arguments, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def apply(self, *manifests: dict[str, Any]) -> None:
        self.do("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump_all(manifests))

    def get(self, kind: str, name: str, namespace: str = SHOP) -> dict[str, Any]:
        stored: dict[str, Any] = json.loads(
            self.do("get", kind, name, "-n", namespace, "-o", "json")
        )
        return stored


def of_the_chart(port: int) -> list[dict[str, Any]]:
    """What the chart makes for external metrics, with the APIService led to `port`."""
    helm = ensure_binaries(("helm",))["helm"]
    values = {
        "imageRegistry": "registry.example",
        "forecaster": {"externalMetrics": {"enabled": True}, "published": PUBLISHED},
    }
    argv = [str(helm), "template", "r1", str(CHART), "-n", SYSTEM, "--values", "-"]
    argv += ["--kube-version", "1.34.4"]  # without a cluster Helm assumes one of long ago
    done = subprocess.run(
        argv, input=json.dumps(values), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    wanted = {
        ("Secret", "r1-forecaster-tls"),
        ("ConfigMap", "r1-forecaster-published"),
        ("ServiceAccount", "r1-forecaster"),
        ("RoleBinding", "r1-system-r1-forecaster"),
        ("APIService", API),
    }
    manifests = [
        each
        for each in yaml.safe_load_all(done.stdout)
        if each and (each["kind"], each["metadata"]["name"]) in wanted
    ]
    assert len(manifests) == len(wanted)
    for each in manifests:
        if each["kind"] == "APIService":
            each["spec"]["service"]["port"] = port
    return manifests


def service() -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "r1-forecaster", "namespace": SYSTEM},
        "spec": {"type": "ExternalName", "externalName": "localhost"},
    }


def workload(name: str, metric: str) -> list[dict[str, Any]]:
    labels = {"app": name}
    container = {"name": "app", "image": "example.invalid/app:1"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    source = {
        "metric": {"name": metric},
        "target": {"type": "AverageValue", "averageValue": str(TARGET)},
    }
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "namespace": SHOP},
            "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": template},
        },
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": name, "namespace": SHOP},
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
                "minReplicas": 1,
                "maxReplicas": 10,
                "metrics": [{"type": "External", "external": source}],
                "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}},
            },
        },
    ]


def as_a_pod(stage: Stage, folder: Path) -> dict[str, Path]:
    """Lay out what the kubelet would mount into the forecaster's pod."""
    mounts = {name: folder / name for name in ("account", "tls", "published")}
    for mount in mounts.values():
        mount.mkdir()
    token = stage.do("create", "token", "r1-forecaster", "-n", SYSTEM)
    (mounts["account"] / "token").write_text(token)
    (mounts["account"] / "ca.crt").write_text((stage.plane.certs / "ca.crt").read_text())
    for name, text in stage.get("secret", "r1-forecaster-tls", SYSTEM)["data"].items():
        (mounts["tls"] / name).write_bytes(base64.b64decode(text))
    listed = stage.get("configmap", "r1-forecaster-published", SYSTEM)["data"]
    (mounts["published"] / "published.json").write_text(listed["published.json"])
    return mounts


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("hpa")
    log = folder / "forecaster.log"
    port, tls_port = free_ports(2)
    quick = ["--horizontal-pod-autoscaler-sync-period=2s"]
    with control_plane() as plane, controllers(plane, CONTROLLERS, quick), prometheus() as url:
        made = Stage(plane, f"http://127.0.0.1:{port}")
        for namespace in (SYSTEM, SHOP):
            made.do("create", "namespace", namespace)
        made.apply(service(), *of_the_chart(tls_port))
        mounts = as_a_pod(made, folder)
        host, _, api_port = plane.server.removeprefix("https://").partition(":")
        arguments = [
            *("--port", str(port), "--prometheus-url", url),
            *("--external-metrics-port", str(tls_port)),
            *("--external-metrics-tls", str(mounts["tls"])),
            *("--service-account", str(mounts["account"])),
            *("--published", str(mounts["published"] / "published.json")),
        ]
        pod = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": api_port}
        with forecaster(arguments, log, pod) as process:

            def available() -> bool:
                assert process.poll() is None, log.read_text()
                conditions = made.get("apiservice", API)["status"].get("conditions", [])
                return any(c["type"] == "Available" and c["status"] == "True" for c in conditions)

            wait_for(lambda: is_ready(port), 60, "the forecaster is ready")
            wait_for(available, 60, "the APIService is available")
            yield made


def test_a_deployment_is_scaled_before_its_load(stage: Stage) -> None:
    stage.apply(*workload("ahead", "demand-ahead"), *workload("plain", "demand-now"))
    risings = Risings(busy=math.ceil(BUSY / TARGET))

    def one_early_and_the_other_seen() -> bool:
        for name in ("ahead", "plain"):
            risings.note(name, int(stage.get("deployment", name)["spec"]["replicas"]))
        return risings.early("ahead") and risings.has_risen("plain")

    try:
        wait_for(one_early_and_the_other_seen, 6 * SEASON, "a rise while it is still quiet")
    finally:
        print(risings.summary())
    assert not risings.early("plain"), "nobody told the plain one of the load"
    condition = stage.get("hpa", "ahead")["status"]["conditions"]
    assert ("ScalingActive", "True") in {(each["type"], each["status"]) for each in condition}


def test_hpa_without_data_keeps_its_replicas_and_reports_the_reason(stage: Stage) -> None:
    stage.apply(*workload("blind", "nothing-there"))
    stage.do("scale", "deployment/blind", "--replicas=3", "-n", SHOP)

    def failing() -> dict[str, Any] | None:
        conditions = stage.get("hpa", "blind").get("status", {}).get("conditions", [])
        return next((c for c in conditions if c["reason"] == "FailedGetExternalMetric"), None)

    condition_message = wait_for(failing, 60, "the HPA says that it gets no metric")["message"]
    assert "NoData" in condition_message
    time.sleep(6)  # three of the HPA's periods
    assert stage.get("deployment", "blind")["spec"]["replicas"] == 3


def test_kubectl_reads_the_value_that_an_hpa_reads(stage: Stage) -> None:
    listed = json.loads(stage.do("get", "--raw", ROOT))
    assert {each["name"] for each in listed["resources"]} == {
        "r1-forecast",
        *(each["name"] for each in PUBLISHED),
    }
    metric_list = json.loads(stage.do("get", "--raw", f"{ROOT}/namespaces/{SHOP}/demand-ahead"))
    assert metric_list["items"][0]["metricName"] == "demand-ahead"
    unknown = stage.kubectl("get", "--raw", f"{ROOT}/namespaces/{SHOP}/orders")
    assert "metric orders is not published in namespace shop" in unknown.stderr
    other = f"{ROOT}/namespaces/{SHOP}/r1-forecast?labelSelector=inference%3Dnobody"
    assert "requests no forecast of an R1Inference shop/nobody" in (
        stage.kubectl("get", "--raw", other).stderr
    )


def test_inference_value_equals_the_operators_forecast(stage: Stage) -> None:
    body = SHAPE | {"series": f"{SHOP}/production-r1", "horizonSeconds": 30, "levels": [0.5, 0.9]}
    request = urllib.request.Request(
        f"{stage.forecaster}/v1/forecast",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )

    def has_forecast() -> bool:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return bool(json.load(reply)["state"] == "Ready")

    wait_for(has_forecast, 60, "a forecast for the operator")
    path = f"{ROOT}/namespaces/{SHOP}/r1-forecast?labelSelector=inference%3Dproduction-r1"
    (item,) = json.loads(stage.do("get", "--raw", path))["items"]
    assert item["metricLabels"] == {"inference": "production-r1"}
    assert QUIET <= int(item["value"].removesuffix("m")) / 1000 <= 2 * BUSY


def test_api_server_refuses_users_without_the_right(stage: Stage) -> None:
    path = f"{ROOT}/namespaces/{SHOP}/demand-ahead"
    user = ("--as", "stranger", "--as-group", "system:authenticated")
    refused = stage.kubectl("get", "--raw", path, *user)
    assert refused.returncode != 0
    assert "forbidden" in refused.stderr.lower()

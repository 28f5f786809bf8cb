"""A Deployment without an R1Inference, on the cluster: its HPA rises before the load.

Prometheus has eight past seasons of a ramp that recurs every two minutes, and future seasons, which
become visible as time passes. All else is as installed: the chart's APIService routes the API server to
the forecaster's pod, and the cluster's own HPA controller reads the metric.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from e2e_helpers import PUBLISHED, SHOP, SHOP_SEASON, SHOP_STEP, wait_for
from keda_client import generated_client
from r1_cluster.cluster import LocalCluster
from r1_cluster.monitoring.backfill import prometheus_backfill
from r1_cluster.node.node_files import PAUSE_IMAGE
from r1_cluster.providers import Cluster
from r1_demo.setup.installation import Installation
from recurring_ramp import BUSY, Risings, demand

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

TARGET = 5
TO_COME = 900.0
LEAD = 40.0
NAMES = ("demand-ahead", "demand-now")


def openmetrics(since: float, until: float) -> str:
    """The ramp as a gauge, in promtool's format."""
    name = PUBLISHED[0]["query"]
    times = [since + i * SHOP_STEP for i in range(int((until - since) / SHOP_STEP))]
    samples = [f"{name} {demand(at, SHOP_SEASON)} {at:.3f}" for at in times]
    return "\n".join([f"# TYPE {name} gauge", *samples, "# EOF", ""])


def workload(name: str, node: dict[str, str]) -> list[dict[str, Any]]:
    """A Deployment of pause pods, and an HPA on the metric of the same name."""
    labels = {"app": name}
    container = {
        "name": "pause",
        "image": PAUSE_IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "resources": {"requests": {"cpu": "1m", "memory": "4Mi"}},
    }
    pod = {"nodeSelector": node, "containers": [container], "terminationGracePeriodSeconds": 1}
    metric = {
        "metric": {"name": name},
        "target": {"type": "AverageValue", "averageValue": str(TARGET)},
    }
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "namespace": SHOP},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        },
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": name, "namespace": SHOP},
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
                "minReplicas": 1,
                "maxReplicas": 6,
                "metrics": [{"type": "External", "external": metric}],
                "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}},
            },
        },
    ]


@pytest.fixture
def shop(
    installation: Installation, cluster: Cluster, pinned: dict[str, str], tmp_path: Path
) -> Iterator[None]:
    assert isinstance(cluster, LocalCluster), (
        "history can be written into the local cluster's Prometheus only"
    )
    past = tmp_path / "past.om"
    now = float(int(time.time()))
    past.write_text(openmetrics(now - 8 * SHOP_SEASON, now + TO_COME))
    prometheus_backfill(cluster, past)
    installation.kubectl("create", "namespace", SHOP)
    installation.apply(*(each for name in NAMES for each in workload(name, pinned)))
    yield
    installation.kubectl("delete", "namespace", SHOP, "--wait=true", "--timeout=60s")


@pytest.mark.usefixtures("shop")
def test_plain_hpa_with_forecast_runs_pods_before_the_load(installation: Installation) -> None:
    """In any of several seasons: the forecaster may still fit during the first one."""
    ahead, plain = NAMES
    risings = Risings(math.ceil(BUSY / TARGET), SHOP_SEASON, LEAD)

    def one_early_and_the_other_risen() -> bool:
        for each in installation.get("deployments", "-n", SHOP)["items"]:
            risings.note(each["metadata"]["name"], each["status"].get("readyReplicas", 0))
        return risings.early(ahead) and risings.has_risen(plain)

    try:
        wait_for("pods ready before the load", 6 * SHOP_SEASON, one_early_and_the_other_risen)
    finally:
        print(risings.summary())
    assert not risings.early(plain), "the workload without a forecast rose before the load"


def test_forecaster_service_answers_keda(installation: Installation, tmp_path: Path) -> None:
    view = generated_client(tmp_path)
    metadata = {"inference": "nobody", "threshold": "5", "scalerAddress": "r1-forecaster:8083"}
    ref = view.pb.ScaledObjectRef(namespace=SHOP, name="orders", scalerMetadata=metadata)
    address = f"{installation.service_address('forecaster')}:8083"
    with grpc.insecure_channel(address) as channel:
        scaler = view.rpc.ExternalScalerStub(channel)
        (spec,) = scaler.GetMetricSpec(ref, timeout=30).metricSpecs
        with pytest.raises(grpc.RpcError) as refused:
            scaler.IsActive(ref, timeout=30)
    assert (spec.metricName, spec.targetSizeFloat) == ("r1-forecast", 5.0)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


def test_kubectl_lists_the_published_forecasts(installation: Installation) -> None:
    listed = json.loads(
        installation.kubectl("get", "--raw", "/apis/external.metrics.k8s.io/v1beta1")
    )
    assert {each["name"] for each in listed["resources"]} == {"r1-forecast", *NAMES}

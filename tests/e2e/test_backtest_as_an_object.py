"""A backtest by kubectl alone: four days of load in Prometheus, one manifest, a verdict.

The user needs no Python installation and no access to Prometheus: the operator creates a Job in its own
namespace, and the result of the Job's pod appears in the object's status.
"""

from __future__ import annotations

import math
import random
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e_helpers import MODELS, wait_for
from r1_cluster.cluster import LocalCluster
from r1_cluster.monitoring.backfill import prometheus_backfill
from r1_cluster.providers import Cluster
from r1_demo.setup.backfill import METRIC
from r1_demo.setup.installation import NAMESPACE, Installation

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

NAME = "november"
TRIED = f"tried-{uuid.uuid4().hex[:6]}"
"""A new name per run: the history cannot be written twice into the same Prometheus."""
DAYS, SCRAPE_SECONDS = 4, 20
CAPACITY = 8  # requests per second of one replica, as in the manifest
INFERENCE = {
    "apiVersion": "deepseek.ai/v1",
    "kind": "R1Inference",
    "metadata": {"name": TRIED, "namespace": MODELS},
    "spec": {
        # No pod has to run: the backtest evaluates the policy.
        "template": {"spec": {"nodeSelector": {"deepseek.ai/nowhere": "true"}}},
        "autoscaling": {
            "minReplicas": 1,
            "maxReplicas": 20,
            "metrics": [{"type": "RequestsPerSecond", "target": CAPACITY}],
        },
    },
}
BACKTEST = {
    "apiVersion": "deepseek.ai/v1",
    "kind": "R1Backtest",
    "metadata": {"name": NAME, "namespace": MODELS},
    "spec": {
        "inferenceName": TRIED,
        "sinceSeconds": DAYS * 86_400,
        "startSeconds": 120,
        "policies": ["oracle"],
    },
}


def openmetrics(until: float) -> Iterator[str]:
    """Counter of a service over four days and one hour, with a daily wave and a peak at nine."""
    rng = random.Random(5)
    labels = f'inference_namespace="{MODELS}",inference="{TRIED}",class="Q2"'
    yield f"# HELP {METRIC} Requests that arrived at the door."
    yield f"# TYPE {METRIC} counter"
    seconds, count = DAYS * 86_400 + 3600, 0.0
    for at in range(0, seconds, SCRAPE_SECONDS):
        hour = at / 3600 % 24
        wave = 5 + 30 * (1 - math.cos(2 * math.pi * (hour - 4) / 24))
        rush = 30.0 if 9 <= hour < 9.5 else 0.0
        count += SCRAPE_SECONDS * (wave + rush) * rng.lognormvariate(0, 0.05)
        yield f"{METRIC}_total{{{labels}}} {count:.1f} {until - seconds + at:.0f}"
    yield "# EOF"


@pytest.fixture
def with_a_past(
    installation: Installation, cluster: Cluster, tmp_path: Path
) -> Iterator[Installation]:
    """The resource, with its load of the last days in the cluster's Prometheus."""
    assert isinstance(cluster, LocalCluster), (
        "history can be written into the local cluster's Prometheus only"
    )
    past = tmp_path / "past.om"
    past.write_text("\n".join(openmetrics(float(int(time.time())))) + "\n")
    prometheus_backfill(cluster, past)
    installation.apply(INFERENCE)
    yield installation
    for kind, name in (("r1bt", NAME), ("r1", TRIED)):
        installation.kubectl("delete", kind, name, "-n", MODELS, "--ignore-not-found")


def phase(installation: Installation) -> str:
    """Phase of the backtest; empty before the operator has set a status."""
    backtest = installation.get("r1bt", NAME, "-n", MODELS)
    return str(backtest.get("status", {}).get("phase", ""))


def test_backtest_manifest_results_in_a_verdict(with_a_past: Installation) -> None:
    kubectl = with_a_past.kubectl
    where = ("-n", MODELS)
    with_a_past.apply(BACKTEST)
    wait_for("the backtest ends", 600, lambda: phase(with_a_past) in ("Succeeded", "Failed"))
    if phase(with_a_past) == "Failed":
        pytest.fail(kubectl("get", "r1bt", NAME, *where, "-o", "yaml"))
    kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", f"r1bt/{NAME}", *where,
            "--timeout=5s")  # fmt: skip
    kubectl("wait", "--for=condition=Complete", f"r1bt/{NAME}", *where, "--timeout=5s")

    status = with_a_past.get("r1bt", NAME, *where)["status"]
    rows = {row["name"]: row for row in status["policies"]}
    assert rows.keys() == {"ours", "ours-no-forecast", "hpa", "oracle"}
    assert status["verdict"]["finding"] in {"Cheaper", "Equal", "MoreExpensive"}, status["verdict"]
    costs = {name: row["costPerMille"] for name, row in rows.items()}
    assert costs["oracle"] < min(costs["ours"], costs["ours-no-forecast"], costs["hpa"]), costs
    assert all(row["overloadPerMille"] <= 5 for row in rows.values()), "all keep the objective"
    head, line = kubectl("get", "r1bt", NAME, *where).splitlines()
    assert head.split() == ["NAME", "PHASE", "FINDING", "INFERENCE", "AGE"]
    assert line.split()[:4] == [NAME, "Succeeded", status["verdict"]["finding"], TRIED]

    pod = with_a_past.get("pods", "-n", NAMESPACE, "-l", f"deepseek.ai/r1backtest={NAME}")
    (one,) = pod["items"]
    mounts = one["spec"]["containers"][0]["volumeMounts"]
    assert not any("serviceaccount" in mount["mountPath"] for mount in mounts), "no token"
    kubectl("delete", "r1bt", NAME, *where)
    kubectl("wait", "--for=delete", "job", "-n", NAMESPACE, "-l", f"deepseek.ai/r1backtest={NAME}",
            "--timeout=60s")  # fmt: skip

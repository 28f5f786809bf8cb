"""Helm on a real API server: from one forecaster to several and back, without leftovers."""

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
KINDS = "deployment,statefulset,service,configmap,poddisruptionbudget"

IMAGES = "imageRegistry=registry.example"


@pytest.fixture
def plane() -> Iterator[ControlPlane]:
    with control_plane() as running:
        yield running


def run(plane: ControlPlane, program: str, *arguments: str) -> str:
    argv = [str(ensure_binaries((program,))[program]), "--kubeconfig", str(plane.kubeconfig)]
    done = subprocess.run(
        [*argv, "-n", "r1-system", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def forecaster(plane: ControlPlane) -> dict[tuple[str, str], dict[str, Any]]:
    """The forecaster objects in the cluster, by kind and name."""
    label = "app.kubernetes.io/component=forecaster"
    listed = json.loads(run(plane, "kubectl", "get", KINDS, "-l", label, "-ojson"))
    return {(each["kind"], each["metadata"]["name"]): each for each in listed["items"]}


def upgrade(plane: ControlPlane, shards: int) -> dict[tuple[str, str], dict[str, Any]]:
    run(plane, "helm", "upgrade", "r1", str(CHART), "--set", f"{IMAGES},forecaster.shards={shards}")
    return forecaster(plane)


def test_the_number_of_shards_can_rise_and_fall(plane: ControlPlane) -> None:
    run(plane, "helm", "install", "r1", str(CHART), "--create-namespace", "--set", IMAGES)
    alone = {("Deployment", "r1-forecaster"), ("Service", "r1-forecaster")}
    several = {
        ("StatefulSet", "r1-forecaster"),
        ("Service", "r1-forecaster"),
        ("Service", "r1-forecaster-shards"),
        ("ConfigMap", "r1-forecaster-shards"),
        ("PodDisruptionBudget", "r1-forecaster"),
    }
    assert forecaster(plane).keys() == alone
    address = forecaster(plane)["Service", "r1-forecaster"]["spec"]["clusterIP"]

    templates = []
    for count in (2, 3, 2):
        objects = upgrade(plane, count)
        assert objects.keys() == several
        workload = objects["StatefulSet", "r1-forecaster"]["spec"]
        assert workload["replicas"] == count
        templates.append(workload["template"])
        listed = objects["ConfigMap", "r1-forecaster-shards"]["data"]["shards.json"]
        assert len(json.loads(listed)) == count
    assert templates[0] == templates[1] == templates[2], "nobody who stays is restarted"

    objects = upgrade(plane, 1)
    assert objects.keys() == alone
    assert objects["Service", "r1-forecaster"]["spec"]["clusterIP"] == address

"""Accepted manifests: the documented one, every example, scale, columns, children."""

from __future__ import annotations

import copy
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client

from r1_cluster.programs.binaries import ensure_binaries
from r1_operator.api.fields.declare import to_json
from r1_operator.api.schema import without_empty
from r1_operator.api.v1 import parse
from r1_operator.plan.snapshot import Defaults, Observed
from r1_operator.plan.status.resource_status import plan_status
from r1_operator.plan.workload import plan_children

pytestmark = pytest.mark.apiserver

EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("*.yaml"))
DEFAULTS = Defaults(runtime_image="registry.example/runtime:1")
VERBATIM = """
apiVersion: deepseek.ai/v1
kind: R1Inference
metadata: {name: production-r1}
spec:
  replicas: 4
  resources:
    limits: {nvidia.com/gpu: 1}
    requests: {cpu: "2", memory: "8Gi"}
  autoscaling:
    minReplicas: 2
    maxReplicas: 10
    metrics:
    - {type: RequestsPerSecond, target: 1000}   # per replica
"""


@pytest.fixture
def kubectl(apiserver: Path, resources: Any) -> Callable[..., str]:
    """Run kubectl against the API server that has the CRD; returns stdout."""
    program = str(ensure_binaries(("kubectl",))["kubectl"])

    def run(*arguments: str, stdin: str = "") -> str:
        argv = [program, "--kubeconfig", str(apiserver), *arguments]
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def production(kubectl: Callable[..., str]) -> Iterator[dict[str, Any]]:
    """The documented manifest, applied with kubectl."""
    kubectl("apply", "--validate=strict", "-f", "-", stdin=VERBATIM)
    try:
        inference: dict[str, Any] = json.loads(kubectl("get", "r1", "production-r1", "-o", "json"))
        yield inference
    finally:
        kubectl("delete", "r1", "production-r1")


def examples() -> list[Any]:
    manifests = ((path, one) for path in EXAMPLES for one in yaml.safe_load_all(path.read_text()))
    return [
        pytest.param(one, id=f"{path.name}:{one['metadata']['name']}") for path, one in manifests
    ]


def test_the_documented_manifest_applies(production: dict[str, Any]) -> None:
    spec = production["spec"]
    assert spec["replicas"] == 4
    assert spec["autoscaling"]["metrics"] == [{"type": "RequestsPerSecond", "target": 1000}]
    assert spec["autoscaling"]["forecast"]["activation"] == "RequireBacktest"


def test_the_example_equals_the_documented_manifest() -> None:
    example = next(path for path in EXAMPLES if path.name == "production-r1.yaml")
    assert yaml.safe_load(example.read_text()) == yaml.safe_load(VERBATIM)
    assert VERBATIM.strip() in example.read_text()


@pytest.mark.parametrize("manifest", examples())
def test_the_api_server_accepts_examples_with_the_same_defaults(
    manifest: dict[str, Any], create: Callable[..., dict[str, Any]]
) -> None:
    stored = create(manifest)
    ours = without_empty(to_json(parse(manifest, strict=True).spec))
    assert without_empty(stored["spec"]) == ours
    assert parse(stored, strict=True).spec == parse(manifest).spec


@pytest.mark.parametrize("manifest", examples())
def test_children_are_accepted_and_pods_are_restricted(
    manifest: dict[str, Any], api_client: Any, kubectl: Callable[..., str]
) -> None:
    """Server-side apply in a dry run, strict; the pod itself in a `restricted` namespace."""
    namespace = f"restricted-{manifest['metadata']['name']}"[:63]
    labels = "pod-security.kubernetes.io/enforce=restricted"
    kubectl("create", "namespace", namespace)
    kubectl("label", "namespace", namespace, labels)
    owned = copy.deepcopy(manifest)
    owned["metadata"] |= {"namespace": namespace, "uid": "f0a6f3a0-0000-4000-8000-000000000001"}
    children = plan_children(parse(owned), DEFAULTS, 2)
    applied = kubectl(
        *("apply", "--server-side", "--field-manager=r1-operator", "--dry-run=server"),
        *("--validate=strict", "-f", "-", "-o", "name"),
        stdin=yaml.safe_dump_all(children),
    )
    assert applied.count("/") == len(children)
    pod = {"apiVersion": "v1", "kind": "Pod"} | copy.deepcopy(children[-1]["spec"]["template"])
    pod["metadata"] |= {"name": "probe", "namespace": namespace}
    created = client.CoreV1Api(api_client).create_namespaced_pod(
        namespace, pod, dry_run="All", field_validation="Strict"
    )
    assert created.spec.containers[0].name == "engine"


def test_quantities_are_stored_in_the_form_of_the_children(api_client: Any, resources: Any) -> None:
    manifest = yaml.safe_load(VERBATIM)
    manifest["spec"]["resources"] = {
        "requests": {"cpu": "1500m", "memory": "1.5Gi", "ephemeral-storage": "2000000"},
        "limits": {"cpu": "2000m", "memory": "2048Mi", "ephemeral-storage": "1e9"},
    }
    manifest["metadata"]["uid"] = "f0a6f3a0-0000-4000-8000-000000000002"
    deployment = plan_children(parse(manifest), DEFAULTS, 1)[-1]
    wanted = deployment["spec"]["template"]["spec"]["containers"][0]["resources"]
    stored = client.AppsV1Api(api_client).create_namespaced_deployment(
        "default", deployment, dry_run="All"
    )
    stored_resources = stored.spec.template.spec.containers[0].resources
    assert {"requests": stored_resources.requests, "limits": stored_resources.limits} == wanted


def test_scale_sets_replicas_and_status_fills_the_columns(
    production: dict[str, Any], kubectl: Callable[..., str]
) -> None:
    kubectl("scale", "r1/production-r1", "--replicas=3")
    inference = json.loads(kubectl("get", "r1", "production-r1", "-o", "json"))
    assert inference["spec"]["replicas"] == 3
    assert inference["metadata"]["generation"] == 2

    status = plan_status(Observed(parse(inference), DEFAULTS), None, now=1_800_000_000.0)
    body = {key: inference[key] for key in ("apiVersion", "kind")} | {
        "metadata": {"name": "production-r1", "namespace": "default"},
        "status": status,
    }
    kubectl(
        *("apply", "--server-side", "--field-manager=r1-operator", "--subresource=status"),
        *("--validate=strict", "-f", "-"),
        stdin=yaml.safe_dump(body),
    )
    header, row = kubectl("get", "r1", "production-r1").splitlines()
    assert header.split() == ["NAME", "READY", "DESIRED", "AVAILABLE", "MODE", "AGE"]
    assert row.split()[:5] == ["production-r1", "False", "3", "0", "Reactive"]
    assert "Applying" in kubectl("get", "r1", "production-r1", "-o", "wide")
    scale = json.loads(kubectl("get", "r1", "production-r1", "--subresource=scale", "-o", "json"))
    assert scale["status"]["selector"] == "deepseek.ai/r1inference=production-r1"


def test_kubectl_explains_every_field(kubectl: Callable[..., str]) -> None:
    text = kubectl("explain", "r1inference.spec", "--recursive")
    for word in ("maxConcurrentSequences", "quantilePercent", "persistentVolumeClaim"):
        assert word in text

"""With any values, the chart renders valid and labelled objects."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml

Manifest = dict[str, Any]
CLUSTER_SCOPED = {"APIService", "ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition"}
# Schemas of these are not Kubernetes' own.
FOREIGN = {"PrometheusRule", "ServiceMonitor"}


def validate(manifests: list[Manifest], version: str) -> None:
    for manifest in manifests:
        if manifest["kind"] not in FOREIGN:
            kubernetes_validate.validate(manifest, version, strict=True)


def test_every_object_follows_its_schema(distinct_manifests: list[Manifest]) -> None:
    validate(distinct_manifests, "1.34")


def test_the_oldest_supported_kubernetes_accepts_the_manifests(
    render: Callable[..., list[Manifest]],
) -> None:
    validate(render(), "1.30")


def test_every_object_exists_once(manifests: list[Manifest]) -> None:
    names = Counter(
        (m["kind"], m["metadata"].get("namespace"), m["metadata"]["name"]) for m in manifests
    )
    assert [name for name, count in names.items() if count > 1] == []


def test_every_object_has_namespace_and_labels(manifests: list[Manifest]) -> None:
    for manifest in manifests:
        metadata = manifest["metadata"]
        assert ("namespace" in metadata) == (manifest["kind"] not in CLUSTER_SCOPED), metadata
        assert (
            metadata["labels"].items()
            >= {
                "app.kubernetes.io/name": "r1-operator",
                "app.kubernetes.io/instance": "r1",
                "app.kubernetes.io/part-of": "r1",
                "app.kubernetes.io/managed-by": "Helm",
            }.items()
        ), metadata["name"]


def test_default_values_install_all_three_components(render: Callable[..., list[Manifest]]) -> None:
    objects = {(m["kind"], m["metadata"]["name"]) for m in render()}
    assert objects >= {
        ("CustomResourceDefinition", "r1inferences.deepseek.ai"),
        *(
            (kind, f"r1-{component}")
            for kind in ("Deployment", "Service", "ServiceAccount", "NetworkPolicy")
            for component in ("operator", "gateway", "forecaster")
        ),
        ("PodDisruptionBudget", "r1-operator"),
        ("PodDisruptionBudget", "r1-gateway"),
    }


def test_the_gateway_service_has_the_expected_ports(
    render: Callable[..., list[Manifest]],
) -> None:
    (service,) = [
        m for m in render() if (m["kind"], m["metadata"]["name"]) == ("Service", "r1-gateway")
    ]
    assert service["spec"]["ports"] == [
        {"name": "http", "port": 80, "targetPort": "http"},
        {"name": "admin", "port": 8081, "targetPort": "admin"},
    ]


def test_the_public_service_does_not_show_the_admin_port(
    render: Callable[..., list[Manifest]],
) -> None:
    services = [
        m
        for m in render("gateway.publicService.enabled=true")
        if m["kind"] == "Service" and m["spec"].get("type", "ClusterIP") != "ClusterIP"
    ]
    assert [[port["name"] for port in s["spec"]["ports"]] for s in services] == [["http"]]


def test_service_monitors_only_on_request(render: Callable[..., list[Manifest]]) -> None:
    assert not [m for m in render() if m["kind"] == "ServiceMonitor"]
    monitors = [m for m in render("serviceMonitor.enabled=true") if m["kind"] == "ServiceMonitor"]
    assert {m["metadata"]["name"] for m in monitors} == {
        "r1-operator",
        "r1-gateway",
        "r1-forecaster",
    }


def test_helm_lint_reports_no_problem(helm: Callable[..., Any], chart: Path) -> None:
    done = helm("lint", str(chart), "--strict", "--kube-version", "1.34.4")
    assert done.returncode == 0, done.stdout + done.stderr


def test_documents_and_chart_state_one_oldest_kubernetes(chart: Path) -> None:
    """Model pods use `preStop.sleep`, which the kubelet supports from 1.30."""
    wanted = yaml.safe_load((chart / "Chart.yaml").read_text())["kubeVersion"]
    assert wanted == ">=1.30.0-0"
    assert "Kubernetes 1.30 or newer" in (chart.parents[1] / "docs" / "install.md").read_text()


def test_the_documented_rendering_works_as_it_stands(
    helm: Callable[..., Any], chart: Path, tmp_path: Path
) -> None:
    text = (chart.parents[1] / "docs" / "install.md").read_text()
    (command,) = [line for line in text.splitlines() if line.startswith("helm template ")]
    words = shlex.split(command.partition(" > ")[0].partition(" ")[2])
    values = tmp_path / "my-values.yaml"
    values.write_text("imageRegistry: registry.example\n")
    words = [str(values) if word == "my-values.yaml" else word for word in words]
    words = [str(chart) if word == "helm/r1-operator" else word for word in words]
    done = helm(*words)
    assert done.returncode == 0, done.stderr


def test_the_pinned_helm_renders_without_a_version(helm: Callable[..., Any], chart: Path) -> None:
    done = helm("template", "r1", str(chart), "--set", "imageRegistry=registry.example")
    assert done.returncode == 0, done.stderr


def test_old_clusters_are_rejected_with_the_required_version(
    helm: Callable[..., Any], chart: Path
) -> None:
    done = helm("template", "r1", str(chart), "--kube-version", "1.29.9")
    assert done.returncode != 0
    assert ">=1.30" in done.stderr

"""Every pod of the chart meets the restricted Pod Security level and common production rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

Manifest = dict[str, Any]
WORKLOADS = ("Deployment", "StatefulSet")


def pods(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    for manifest in manifests:
        if manifest["kind"] == "Pod":
            yield manifest["metadata"]["name"], manifest["spec"]
        elif manifest["kind"] in WORKLOADS:
            yield manifest["metadata"]["name"], manifest["spec"]["template"]["spec"]


def containers(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    for name, pod in pods(manifests):
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            yield f"{name}/{container['name']}", container


def test_pods_are_restricted(manifests: list[Manifest]) -> None:
    for name, pod in pods(manifests):
        security = pod["securityContext"]
        assert security["runAsNonRoot"] is True, name
        assert security["runAsUser"] == 65532, name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for shared in ("hostNetwork", "hostPID", "hostIPC"):
            assert not pod.get(shared), name
        kinds = (
            {kind for volume in pod["volumes"] for kind in volume if kind != "name"}
            if ("volumes" in pod)
            else set()
        )
        assert kinds <= {"emptyDir", "secret", "configMap", "persistentVolumeClaim"}, name


def test_containers_are_restricted(manifests: list[Manifest]) -> None:
    for name, container in containers(manifests):
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False, name
        assert security["readOnlyRootFilesystem"] is True, name
        assert security["capabilities"] == {"drop": ["ALL"]}, name
        assert not security.get("privileged"), name
        assert all("hostPort" not in port for port in container.get("ports", [])), name


def test_only_api_clients_have_service_account_tokens(manifests: list[Manifest]) -> None:
    wanted = {"operator", "gateway"}
    # The forecaster serves an aggregated API only where it can read whom to believe.
    wanted |= {"forecaster"} if any(m["kind"] == "APIService" for m in manifests) else set()
    for manifest in manifests:
        if manifest["kind"] == "ServiceAccount":
            assert manifest["automountServiceAccountToken"] is False
        if manifest["kind"] in WORKLOADS:
            component = manifest["metadata"]["labels"]["app.kubernetes.io/component"]
            pod = manifest["spec"]["template"]["spec"]
            assert pod["automountServiceAccountToken"] is (component in wanted), component
        if manifest["kind"] == "Pod":
            assert manifest["spec"]["automountServiceAccountToken"] is False


def test_each_workload_has_its_own_service_account(manifests: list[Manifest]) -> None:
    workloads = [m for m in manifests if m["kind"] in WORKLOADS]
    used = [m["spec"]["template"]["spec"]["serviceAccountName"] for m in workloads]
    made = {m["metadata"]["name"] for m in manifests if m["kind"] == "ServiceAccount"}
    assert len(set(used)) == len(used)
    assert set(used) == made
    assert "default" not in used


def test_images_are_pinned(manifests: list[Manifest]) -> None:
    for name, container in containers(manifests):
        tag = container["image"].rpartition(":")[2]
        assert tag not in ("", "latest"), name
        assert "/" not in tag, f"{name} has no tag"


def test_pods_have_requests_and_memory_limits(manifests: list[Manifest]) -> None:
    for name, container in containers(manifests):
        assert container["resources"]["requests"].keys() >= {"cpu", "memory"}, name
        assert "memory" in container["resources"]["limits"], name


def test_liveness_and_readiness_probes_differ(manifests: list[Manifest]) -> None:
    for manifest in manifests:
        if manifest["kind"] not in WORKLOADS:
            continue
        (container,) = manifest["spec"]["template"]["spec"]["containers"]
        ports = {port["name"] for port in container["ports"]}
        probes = {
            probe: container[probe]["httpGet"]
            for probe in ("startupProbe", "livenessProbe", "readinessProbe")
        }
        assert {get["port"] for get in probes.values()} <= ports
        assert probes["livenessProbe"]["path"] != probes["readinessProbe"]["path"]


def test_rolling_updates_keep_the_replica_count(manifests: list[Manifest]) -> None:
    for manifest in manifests:
        if manifest["kind"] == "Deployment":
            assert manifest["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


def test_replicas_spread_over_nodes(manifests: list[Manifest]) -> None:
    for manifest in manifests:
        if manifest["kind"] not in WORKLOADS:
            continue
        template = manifest["spec"]["template"]
        (spread,) = template["spec"]["topologySpreadConstraints"]
        selector = spread["labelSelector"]["matchLabels"]
        assert selector.items() <= template["metadata"]["labels"].items()


def test_prometheus_scrapes_every_component_once(manifests: list[Manifest]) -> None:
    monitored = any(manifest["kind"] == "ServiceMonitor" for manifest in manifests)
    for manifest in manifests:
        if manifest["kind"] not in WORKLOADS:
            continue
        template = manifest["spec"]["template"]
        annotations = template["metadata"].get("annotations", {})
        if monitored:
            assert not [name for name in annotations if name.startswith("prometheus.io/")]
            continue
        ports = {str(port["containerPort"]) for port in template["spec"]["containers"][0]["ports"]}
        assert annotations["prometheus.io/scrape"] == "true"
        assert annotations["prometheus.io/path"] == "/metrics"
        assert annotations["prometheus.io/port"] in ports


def test_service_links_are_disabled(manifests: list[Manifest]) -> None:
    # A Service r1-gateway would put R1_GATEWAY_PORT=tcp://... into every pod beside it.
    for name, pod in pods(manifests):
        assert pod["enableServiceLinks"] is False, name


def test_secrets_are_not_in_arguments_or_environment(
    render: Callable[..., list[Manifest]],
) -> None:
    for name, container in containers(render("gateway.apiKeysSecret.name=clients")):
        text = str([container.get("command"), container.get("args"), container.get("env")])
        assert "secretKeyRef" not in text, name


@pytest.mark.parametrize("component", ["operator", "gateway", "forecaster"])
def test_only_tmp_is_writable(render: Callable[..., list[Manifest]], component: str) -> None:
    (deployment,) = [
        m
        for m in render()
        if (m["kind"], m["metadata"]["name"]) == ("Deployment", f"r1-{component}")
    ]
    pod = deployment["spec"]["template"]["spec"]
    (volume,) = pod["volumes"]
    assert "sizeLimit" in volume["emptyDir"]
    assert pod["containers"][0]["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp"}]

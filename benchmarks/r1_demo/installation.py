"""The project on a cluster: images built and loaded, the chart installed, and where it answers.

Used by the demo, the end-to-end tests and the benchmarks alike, and it goes the way of a user: the
chart with values, nothing by the side. What differs from a site of one's own is said in the
values: the images are the ones built here, and forecaster and model pods take torch from the
node (`r1_cluster.site_packages`) instead of from a five-gigabyte image.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1_cluster import images, site_packages
from r1_cluster.binaries import ensure_binaries
from r1_cluster.commands import run
from r1_cluster.paths import repository_root
from r1_cluster.providers import Cluster

NAMESPACE, RELEASE = "r1-system", "r1"
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
TAG = "dev"
Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Installation:
    """An installed chart on a cluster."""

    cluster: Cluster

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl as admin; returns stdout."""
        return self.cluster.kubectl(*arguments, stdin=stdin)

    def get(self, *arguments: str) -> Any:
        """Return what `kubectl get ... -o json` prints."""
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def apply(self, *manifests: dict[str, Any]) -> None:
        """Apply manifests as a user would."""
        document = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests)})
        self.kubectl("apply", "-f", "-", stdin=document)

    def service_address(self, component: str) -> str:
        """Return the cluster IP of a component's Service; this machine reaches it directly."""
        address = self.get("service", f"{RELEASE}-{component}", "-n", NAMESPACE)
        return str(address["spec"]["clusterIP"])

    @property
    def gateway_url(self) -> str:
        """The OpenAI API's base, without /v1."""
        return f"http://{self.service_address('gateway')}"

    def uninstall(self) -> None:
        """Run `helm uninstall`; custom resources and the CRD stay."""
        helm(self.cluster, "uninstall", RELEASE, "--namespace", NAMESPACE, "--wait")


def helm(cluster: Cluster, *arguments: str, stdin: str | None = None) -> str:
    """Run the pinned helm on the cluster; returns stdout. Raises ClusterError."""
    program = ensure_binaries(("helm",))["helm"]
    argv = [str(program), "--kubeconfig", str(cluster.kubeconfig), *arguments]
    return run(argv, f"helm {arguments[0]} failed", stdin=stdin, timeout=600)


def local_values(cluster: Cluster) -> dict[str, Any]:
    """Return the chart's values for a cluster without a registry."""

    def image(part: str) -> dict[str, str]:
        repository = images.image_name(part).rpartition(":")[0]
        return {"repository": repository, "tag": TAG, "pullPolicy": "IfNotPresent"}

    return {
        "operator": {"image": image("operator")},
        "gateway": {"image": image("gateway"), "drainSeconds": 30},
        "forecaster": {"image": image("forecaster"), **site_packages.chart_values()},
        "runtimeImage": image("runtime"),
        "prometheus": {"url": cluster.prometheus_url},
    }


def prepare_namespace(cluster: Cluster, namespace: str) -> None:
    """Make a namespace at the restricted level whose pods can mount the node's packages."""
    wanted = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
        *site_packages.manifests(namespace),
    ]
    wanted[0]["metadata"]["labels"] = RESTRICTED
    document = json.dumps({"apiVersion": "v1", "kind": "List", "items": wanted})
    cluster.kubectl("apply", "-f", "-", stdin=document)


def install(
    cluster: Cluster,
    report: Report,
    *,
    model_namespaces: Sequence[str] = ("default",),
    values: dict[str, Any] | None = None,
) -> Installation:
    """Build and load what is new, install or upgrade the chart, and wait until it serves.

    `values` are merged over `local_values`, key by key at the top level. Raises ClusterError with
    the failing command's words.
    """
    identities = {}
    for part in images.PARTS:
        name = images.build(part, thin=True, report=report)
        images.load(name, cluster)
        identities[part] = images.identity(name)
    for namespace in (NAMESPACE, *model_namespaces):
        prepare_namespace(cluster, namespace)
    merged = local_values(cluster)
    for key, value in (values or {}).items():
        merged[key] = {**merged[key], **value} if isinstance(merged.get(key), dict) else value
    for part in ("operator", "gateway", "forecaster"):
        # The tag stays, so that a new image must change something of the pod to be taken.
        annotations = merged[part].setdefault("podAnnotations", {})
        annotations.setdefault("deepseek.ai/image", identities[part][:24])
    chart = repository_root() / "helm" / "r1-operator"
    report("installing the chart")
    with_values(cluster, chart, merged)
    return Installation(cluster)


def with_values(cluster: Cluster, chart: Path, values: dict[str, Any]) -> None:
    """Run `helm upgrade --install` with `values` and wait for the pods."""
    target = ("--namespace", NAMESPACE, "--values", "-", "--wait", "--timeout=5m")
    arguments = ("upgrade", "--install", RELEASE, str(chart), *target)
    helm(cluster, *arguments, stdin=json.dumps(values))

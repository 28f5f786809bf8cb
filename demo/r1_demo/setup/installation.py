"""Installation of the project on a cluster: images, chart, and the addresses of its Services.

Demo, end-to-end tests and benchmarks use it. It installs the chart with values, as a user does.
The values differ from a user's in two points: images are built here, and forecaster and model pods
mount torch from the node (`r1_cluster.image_build.site_packages`) instead of from a 5 GB image.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1_cluster.cluster import LocalCluster
from r1_cluster.commands import run
from r1_cluster.image_build import images, site_packages
from r1_cluster.paths import repository_root
from r1_cluster.programs.binaries import ensure_binaries
from r1_cluster.programs.build_progress import BuildProgress
from r1_cluster.providers import Cluster, GivenCluster
from r1_common.cache_folder import cache_root
from r1_common.listen import host_port

NAMESPACE, RELEASE = "r1-system", "r1"
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
Report = Callable[[str], None]
IMAGE_SECONDS = 60.0
"""Expected time to build and load an image without a record on this machine."""


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
        """Return the cluster IP of a component's Service, which this machine routes to."""
        address = self.get("service", f"{RELEASE}-{component}", "-n", NAMESPACE)
        return str(address["spec"]["clusterIP"])

    @property
    def gateway_url(self) -> str:
        """The OpenAI API's base, without /v1."""
        return f"http://{host_port(self.service_address('gateway'), 80)}"

    def uninstall(self) -> None:
        """Run `helm uninstall`; custom resources and the CRD stay."""
        helm(self.cluster, "uninstall", RELEASE, "--wait")


def helm(
    cluster: Cluster, *arguments: str, values: Mapping[str, Any] | None = None, seconds: float = 600
) -> str:
    """Run the pinned helm in the system's namespace; returns stdout. Raises ClusterError."""
    program = ensure_binaries(("helm",))["helm"]
    argv = [str(program), "--kubeconfig", str(cluster.kubeconfig), *arguments]
    argv += ["--namespace", NAMESPACE]
    if values is not None:
        argv += ["--values", "-"]
    stdin = None if values is None else json.dumps(values)
    return run(argv, f"helm {arguments[0]} failed", stdin=stdin, timeout=seconds)


def chart() -> Path:
    """Return the chart's folder in this clone."""
    return repository_root() / "helm" / "r1-operator"


def thin(cluster: Cluster) -> bool:
    """Return whether pods of this cluster mount torch from the node.

    `R1_WHOLE_IMAGES=1` disables it: the images are then those of `make images`.
    """
    whole = os.environ.get("R1_WHOLE_IMAGES") == "1"
    return not whole and isinstance(cluster, LocalCluster) and site_packages.fits_thin_images()


def with_libraries(cluster: Cluster, resource: dict[str, Any]) -> dict[str, Any]:
    """Return a resource whose pods mount torch from the node when the images have none."""
    if thin(cluster):
        resource["spec"]["template"] = site_packages.pod_template()
    return resource


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `under` overridden by `over` as helm merges values: maps by key, lists as a whole."""
    result = dict(under)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(under.get(key), Mapping)
        result[key] = merged(under[key], value) if both else value
    return result


def base_values(cluster: Cluster) -> dict[str, Any]:
    """Return the chart's values for the images built here, on this cluster."""

    def image(part: str) -> dict[str, str]:
        repository, _, tag = images.image_name(part, thin=thin(cluster)).rpartition(":")
        return {"repository": repository, "tag": tag, "pullPolicy": "IfNotPresent"}

    values: dict[str, Any] = {
        "operator": {"image": image("operator")},
        "gateway": {"image": image("gateway"), "drainSeconds": 30},
        "forecaster": {"image": image("forecaster")},
        "runtimeImage": image("runtime"),
        "backtest": {"image": image("backtest")},
    }
    if thin(cluster):
        values["forecaster"] |= site_packages.chart_values()
        values["backtest"] |= site_packages.chart_values()
    if cluster.prometheus_url is not None:
        values["prometheus"] = {"url": cluster.prometheus_url}
    return values


def load_images(cluster: Cluster, report: Report) -> dict[str, Any]:
    """Build and load changed images; returns values that restart the chart's pods with them.

    Tags are constant, so an annotation of the pod changes with its image.
    """
    if isinstance(cluster, GivenCluster):
        report(
            f"Given cluster: its nodes must have images such as {images.image_name('operator')}."
        )
        return {}
    taken: dict[str, Any] = {}
    times = cache_root() / "build-times.json"
    progress = BuildProgress("image", images.LOCAL_PARTS, times, IMAGE_SECONDS, report)
    for part in images.LOCAL_PARTS:
        with progress.step(part):
            name = images.build(part, thin=thin(cluster), report=report)
            images.load(name, cluster)
        mark = {"deepseek.ai/image": images.identity(name)[:24]}
        if part not in ("runtime", "backtest"):  # their pods are created anew
            taken[part] = {"podAnnotations": mark}
    return taken


def prepare_namespace(cluster: Cluster, namespace: str) -> None:
    """Create a namespace at the restricted level whose pods can mount the node's packages.

    The namespace `default` belongs to the user and gets no label.
    """
    wanted: list[dict[str, Any]] = []
    if namespace != "default":
        metadata = {"name": namespace, "labels": RESTRICTED}
        wanted = [{"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}]
    if thin(cluster):
        wanted += site_packages.manifests(namespace)
    if not wanted:
        return
    document = json.dumps({"apiVersion": "v1", "kind": "List", "items": wanted})
    arguments = ("apply", "--server-side", "--field-manager=r1-installation", "-f", "-")
    cluster.kubectl(*arguments, stdin=document)


def install(
    cluster: Cluster,
    report: Report,
    *,
    model_namespaces: Sequence[str] = ("default",),
    values: Mapping[str, Any] | None = None,
) -> Installation:
    """Build and load images, install or upgrade the chart, and wait until its pods are ready.

    `values` override `base_values`. Raises ClusterError with the failing command's output.
    """
    taken = load_images(cluster, report)
    for namespace in (NAMESPACE, *model_namespaces):
        prepare_namespace(cluster, namespace)
    whole = merged(merged(base_values(cluster), taken), values or {})
    report("Installing the chart: helm upgrade --install r1 helm/r1-operator")
    wait = ("--wait", "--timeout", "5m")
    helm(cluster, "upgrade", "--install", RELEASE, str(chart()), *wait, values=whole)
    return Installation(cluster)

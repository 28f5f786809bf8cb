"""A pod's life on the cluster: it runs, is found by name, is read, and its metrics are scraped."""

from __future__ import annotations

import json
import os
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from r1_cluster.cluster import LocalCluster
from r1_cluster.image_build import images, site_packages
from r1_cluster.monitoring.backfill import prometheus_backfill
from r1_cluster.providers import Cluster
from r1_cluster.simulated_nodes import add_kwok_nodes, simulated_pod_settings

pytestmark = pytest.mark.cluster

# Workers of one pytest run share the cluster, not the namespace.
NAMESPACE = f"r1-cluster-tests-{os.environ.get('PYTEST_XDIST_WORKER', 'alone')}"
SERVER = """\
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"r1_test_answers 42\\n")
print("serving", flush=True)
http.server.ThreadingHTTPServer(("", 8000), Handler).serve_forever()
"""
RESTRICTED = {
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "seccompProfile": {"type": "RuntimeDefault"},
}
WEB = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}} | {
    "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8000}]}
}


def build_pod(name: str, image: str, script: str, **spec: Any) -> dict[str, Any]:
    container = {
        "name": "main",
        "image": image,
        "command": ["python3", "-c", script],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    container |= spec.pop("container", {})
    metadata = {"name": name, "labels": {"app": name}, "annotations": spec.pop("annotations", {})}
    defaults = {
        "containers": [container],
        "securityContext": RESTRICTED,
        "terminationGracePeriodSeconds": 0,
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": defaults | spec}


def eventually(check: Callable[[], Any], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while True:
        try:
            value = check()
        except OSError:
            value = None
        if value or time.monotonic() > deadline:
            return value
        time.sleep(0.2)


def http_get(url: str) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=5) as answer:
        text: str = answer.read().decode()
        return text


@pytest.fixture(scope="module")
def apply(cluster: Cluster) -> Iterator[Callable[..., str]]:
    """Return kubectl in a namespace of this module, which is held to restricted pods."""

    def kubectl(*arguments: str, objects: list[dict[str, Any]] | None = None) -> str:
        stdin = None
        if objects is not None:
            stdin = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
            arguments = ("apply", "-f", "-", *arguments)
        return cluster.kubectl("--namespace", NAMESPACE, *arguments, stdin=stdin)

    cluster.kubectl("create", "namespace", NAMESPACE)
    enforce = "pod-security.kubernetes.io/enforce=restricted"
    cluster.kubectl("label", "namespace", NAMESPACE, enforce)
    yield kubectl
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=true", "--timeout=120s")


@pytest.fixture(scope="module")
def image(cluster: Cluster) -> str:
    return images.load_python(cluster)


@pytest.fixture(scope="module")
def web(apply: Callable[..., str], image: str) -> str:
    """Return the name of a pod that serves, with a Service `web` in front, annotated."""
    annotations = {"prometheus.io/scrape": "true", "prometheus.io/port": "8000"}
    apply(objects=[build_pod("web", image, SERVER, annotations=annotations), WEB])
    apply("wait", "--for=condition=Ready", "pod/web", "--timeout=90s")
    return "web"


def local_only(cluster: Cluster) -> LocalCluster:
    if not isinstance(cluster, LocalCluster):
        pytest.skip(f"the {cluster.name} cluster does not promise this")
    return cluster


def test_logs_and_exec_work(apply: Callable[..., str], web: str) -> None:
    assert eventually(lambda: "serving" in apply("logs", web))
    assert apply("exec", web, "--", "python3", "-c", "print(6 * 7)").strip() == "42"


def test_a_pod_reaches_the_service_by_its_name(
    apply: Callable[..., str], web: str, image: str
) -> None:
    url = f"http://{web}.{NAMESPACE}.svc.cluster.local"
    script = f"import urllib.request as u; print(u.urlopen({url!r}, timeout=5).read().decode())"
    apply(objects=[build_pod("client", image, script, restartPolicy="OnFailure")])
    apply("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/client", "--timeout=90s")
    assert "r1_test_answers 42" in apply("logs", "client")


def test_the_host_reaches_the_service(
    cluster: Cluster, apply: Callable[..., str], web: str
) -> None:
    local_only(cluster)
    address = apply("get", "service", web, "-o", "jsonpath={.spec.clusterIP}")
    assert eventually(lambda: "r1_test_answers" in http_get(f"http://{address}/"))


def test_a_pod_can_request_a_simulated_gpu(
    cluster: Cluster, apply: Callable[..., str], image: str
) -> None:
    local_only(cluster)
    resources = {"limits": {"nvidia.com/gpu": 1}}
    pod = build_pod(
        "gpu", image, "import time; time.sleep(600)", container={"resources": resources}
    )
    apply(objects=[pod])
    apply("wait", "--for=condition=Ready", "pod/gpu", "--timeout=90s")
    apply("delete", "pod", "gpu")


def test_pods_run_on_simulated_nodes(cluster: Cluster, apply: Callable[..., str]) -> None:
    if local_only(cluster).settings.kwok is False:
        pytest.skip("this cluster was booted without kwok")
    add_kwok_nodes(cluster.kubectl, 1, first=900)
    try:
        settings = simulated_pod_settings()
        pods = [build_pod(f"fake-{i}", "any/image", "", **settings) for i in range(20)]
        apply(objects=pods)
        names = [f"pod/fake-{i}" for i in range(20)]
        apply("wait", "--for=condition=Ready", *names, "--timeout=60s")
        apply("delete", *names, "--wait=true")
    finally:
        cluster.kubectl("delete", "node", "kwok-900")


def test_a_restricted_pod_mounts_libraries_from_the_node(
    cluster: Cluster, apply: Callable[..., str], image: str
) -> None:
    local_only(cluster)
    if not site_packages.fits_thin_images():
        pytest.skip("this environment's Python is not the images'")
    container = {
        "name": "main",
        "env": site_packages.environment(),
        "volumeMounts": site_packages.volume_mounts(),
    }
    script = "import numpy; print(numpy.arange(4).sum(), numpy.__file__)"
    pod = build_pod(
        "borrower",
        image,
        script,
        restartPolicy="Never",
        volumes=site_packages.volumes(),
        container=container,
    )
    volume, claim = site_packages.manifests(NAMESPACE)
    apply(objects=[claim, pod])
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(volume))
    try:
        apply("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/borrower", "--timeout=120s")
        assert apply("logs", "borrower").startswith(f"6 {site_packages.MOUNT_PATH}/numpy")
    finally:
        apply("delete", "pod/borrower", f"pvc/{site_packages.CLAIM}")
        cluster.kubectl("delete", "pv", volume["metadata"]["name"])


def query(url: str, text: str) -> list[dict[str, Any]]:
    answer = json.loads(http_get(f"{url}/api/v1/query?{urllib.parse.urlencode({'query': text})}"))
    result: list[dict[str, Any]] = answer["data"]["result"]
    return result


def test_prometheus_scrapes_an_annotated_pod(cluster: Cluster, web: str) -> None:
    url = local_only(cluster).prometheus_url
    samples = eventually(lambda: query(url, f'r1_test_answers{{namespace="{NAMESPACE}"}}'))
    assert samples[0]["metric"]["pod"] == web
    assert samples[0]["value"][1] == "42"


def test_history_can_be_backfilled_into_prometheus(cluster: Cluster, tmp_path: Path) -> None:
    local = local_only(cluster)
    start = int(time.time()) - 13 * 86400
    lines = ["# TYPE r1_test_history gauge"]
    lines += [f"r1_test_history {i} {start + 600 * i}" for i in range(12 * 144)]
    history = tmp_path / "history.txt"
    history.write_text("\n".join([*lines, "# EOF", ""]))
    prometheus_backfill(local, history)
    samples = eventually(
        lambda: query(local.prometheus_url, "count_over_time(r1_test_history[14d])")
    )
    assert samples[0]["value"][1] == str(12 * 144)

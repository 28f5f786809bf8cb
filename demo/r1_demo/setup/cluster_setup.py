"""Cluster setup of a run: a cluster, the chart, and the URLs of its Services.

Everything that a run creates is removed in reverse order, also after Ctrl-C or an error, unless
`--keep` is given. A cluster that was up before stays.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from r1_cluster import providers
from r1_cluster.cluster import LocalCluster
from r1_cluster.errors import ClusterError, NotReady
from r1_cluster.programs.binaries import ensure_binaries
from r1_cluster.providers import Cluster
from r1_common.listen import host_port
from r1_demo.reporting.observation import get_json
from r1_demo.setup.installation import (
    NAMESPACE,
    RELEASE,
    Report,
    base_values,
    helm,
    install,
    merged,
)

READY_SECONDS = 240.0
SCRAPE_SECONDS = 2.0  # as the local cluster's Prometheus is set


@dataclass(slots=True)
class ClusterSetup:
    """The cluster and the URLs by which this machine reaches its Services."""

    cluster: Cluster
    gateway_url: str = ""
    signals_url: str = ""
    decisions_url: str = ""
    forwards: list[subprocess.Popen[str]] = field(default_factory=list)

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl as admin."""
        return self.cluster.kubectl(*arguments, stdin=stdin)

    def apply(self, documents: Sequence[Mapping[str, Any]]) -> None:
        """Apply objects by server-side apply."""
        listed = {"apiVersion": "v1", "kind": "List", "items": list(documents)}
        self.kubectl(
            "apply", "--server-side", "--field-manager=r1-demo", "-f", "-", stdin=json.dumps(listed)
        )

    def wait_ready(self, name: str, namespace: str, seconds: float = READY_SECONDS) -> None:
        """Wait until a resource is Ready; raises NotReady with its conditions."""
        resource = f"r1inferences.deepseek.ai/{name}"
        try:
            self.kubectl(
                "wait",
                "-n",
                namespace,
                "--for=condition=Ready",
                resource,
                f"--timeout={seconds:.0f}s",
            )
        except ClusterError as error:
            output = self.kubectl(
                "get", "-n", namespace, resource, "-o", "jsonpath={.status.conditions}"
            )
            raise NotReady(
                f"{name} is not Ready after {seconds:.0f} s. Conditions: {output}"
            ) from error

    def wait_replicas(
        self, name: str, namespace: str, count: int, seconds: float = READY_SECONDS
    ) -> None:
        """Wait until a resource has `count` ready replicas; raises NotReady."""
        resource = f"r1inferences.deepseek.ai/{name}"
        deadline = time.monotonic() + seconds
        while True:
            output = self.kubectl(
                "get", "-n", namespace, resource, "-o", "jsonpath={.status.readyReplicas}"
            )
            if int(output or 0) >= count:
                return
            if time.monotonic() > deadline:
                raise NotReady(
                    f"{name} has {output or 0} of {count} ready replicas after {seconds:.0f} s"
                )
            time.sleep(1.0)


@contextlib.contextmanager
def cluster_of(name: str, keep: bool, report: Report) -> Iterator[Cluster]:
    """Yield a cluster. One that is booted here is removed at the end unless `keep`."""
    found = providers.find(name)
    if found is not None:
        report(f"Using the running cluster {found.name}.")
        yield found
        return
    report("Booting a cluster. The first boot builds its programs: 7 to 15 min on 2 cores.")
    cluster = providers.obtain(name)
    try:
        yield cluster
    finally:
        if keep:
            report(f"Keeping cluster {name}: export KUBECONFIG={cluster.kubeconfig}")
        else:
            report(f"Removing cluster {name}.")
            providers.release(name)


@contextlib.contextmanager
def install_on(
    cluster: Cluster, values: Mapping[str, Any], keep: bool, report: Report
) -> Iterator[ClusterSetup]:
    """Yield a cluster with the installed chart and the URLs of its Services."""
    setup = ClusterSetup(cluster)
    try:
        install(cluster, report, values=values)
        _find_urls(setup)
        yield setup
    finally:
        for forward in setup.forwards:
            forward.terminate()
            forward.wait()
        if not keep:
            report("helm uninstall r1")
            _remove(setup)


def build_values(cluster: Cluster, season: float | None) -> dict[str, Any]:
    """Return the chart's values for a run: local images, one replica each, short intervals.

    Rates are means over four scrapes: 8 s here, and a minute or more in production, where a day
    is not compressed.
    """
    window = str(round(4 * SCRAPE_SECONDS))
    environment = [
        {"name": "R1_DECISION_SECONDS", "value": "1"},
        {"name": "R1_MIN_RATE_SECONDS", "value": window},
        # One operator needs no fast failover, and a busy machine may renew late.
        {"name": "R1_LEASE_SECONDS", "value": "60"},
    ]
    base = base_values(cluster)
    training = [{"name": "R1_FORECASTER_TRAINING_SHARE", "value": "0.25"}]
    run_values = {
        "operator": {"replicas": 1, "extraEnv": environment},
        "gateway": {"drainSeconds": 10},
        "serviceMonitor": {"interval": f"{SCRAPE_SECONDS:.0f}s"},
        "forecaster": {
            "enabled": season is not None and cluster.prometheus_url is not None,
            "extraEnv": training + base["forecaster"].get("extraEnv", []),
        },
    }
    return merged(base, run_values)


def _remove(setup: ClusterSetup) -> None:
    """Remove resources and release. Errors are ignored: the cluster may be gone."""
    with contextlib.suppress(ClusterError):
        setup.kubectl(
            "delete",
            "r1inferences.deepseek.ai",
            "-n",
            "default",
            "-l",
            "r1-demo=true",
            "--wait=true",
            "--timeout=60s",
        )
    with contextlib.suppress(ClusterError):
        helm(setup.cluster, "uninstall", RELEASE, "--wait", "--timeout", "60s")


def _find_urls(setup: ClusterSetup) -> None:
    """Set the URLs of gateway and operator: ClusterIPs on the local cluster, else port-forwards."""
    admin = f"{_service_url(setup, f'{RELEASE}-gateway', 8081)}"
    setup.gateway_url = _service_url(setup, f"{RELEASE}-gateway", 80)
    setup.signals_url = f"{admin}/signals"
    setup.decisions_url = f"{_service_url(setup, f'{RELEASE}-operator', 8080)}/decisions"
    deadline = time.monotonic() + READY_SECONDS
    while get_json(setup.signals_url) is None:
        if time.monotonic() > deadline:
            pods = setup.kubectl("get", "pods", "-n", NAMESPACE)
            raise NotReady(f"the gateway does not respond at {setup.signals_url}:\n{pods}")
        time.sleep(0.5)


def _service_url(setup: ClusterSetup, service: str, port: int) -> str:
    if isinstance(setup.cluster, LocalCluster):
        address = setup.kubectl(
            "get", "service", service, "-n", NAMESPACE, "-o", "jsonpath={.spec.clusterIP}"
        )
        return f"http://{host_port(address, port)}"
    setup.kubectl(
        "rollout",
        "status",
        f"deployment/{service}",
        "-n",
        NAMESPACE,
        f"--timeout={READY_SECONDS:.0f}s",
    )
    program = ensure_binaries(("kubectl",))["kubectl"]
    argv = [
        str(program),
        f"--kubeconfig={setup.cluster.kubeconfig}",
        "port-forward",
        "-n",
        NAMESPACE,
    ]
    forward = subprocess.Popen(
        [*argv, f"service/{service}", f":{port}"], stdout=subprocess.PIPE, text=True
    )
    setup.forwards.append(forward)
    line = forward.stdout.readline() if forward.stdout else ""
    found = re.search(r"127\.0\.0\.1:(\d+)", line)
    if found is None:
        raise NotReady(f"kubectl port-forward to {service} did not start: {line!r}")
    return f"http://127.0.0.1:{found[1]}"

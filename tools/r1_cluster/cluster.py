"""One local cluster: up, down, status. `down` works without state."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from r1_cluster.addresses import choose_index
from r1_cluster.commands import run
from r1_cluster.control_plane import certificates
from r1_cluster.control_plane.apiserver_probe import fetch, is_ready
from r1_cluster.control_plane.controlplane import write_certificates
from r1_cluster.control_plane.kubeconfigs import write_kubeconfig
from r1_cluster.errors import ClusterError, NotReady
from r1_cluster.node import cgroups, containers, link, namespaces
from r1_cluster.node.node_files import PAUSE_IMAGE, render_all
from r1_cluster.node.node_processes import plan_processes
from r1_cluster.paths import clusters_root
from r1_cluster.programs.binaries import ensure_binaries, to_stderr
from r1_cluster.programs.build_progress import Report
from r1_cluster.programs.debian import NODE_PROGRAMS, ensure_packages, require_root
from r1_cluster.settings import (
    PROMETHEUS_PORT,
    ClusterSettings,
    cgroup_name,
    known_clusters,
    read_settings,
    state_folder,
)
from r1_cluster.waiting import wait_until
from r1_common.cache_folder import cache_root
from r1_common.file_lock import exclusive

READY_SECONDS = 180.0  # a cold disk and busy cores; 10 s is usual

# User name and groups of each kubeconfig that a process of the node has.
CLIENTS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "kube-controller-manager": ("system:kube-controller-manager", ()),
    "kube-scheduler": ("system:kube-scheduler", ()),
    "kube-proxy": ("system:kube-proxy", ()),
    "coredns": ("r1-coredns", ("system:masters",)),
    "prometheus": ("r1-prometheus", ("system:masters",)),
    "kwok": ("r1-kwok", ("system:masters",)),
}


@dataclass(frozen=True, slots=True)
class LocalCluster:
    """A cluster that `up` booted."""

    settings: ClusterSettings
    init_pid: int

    @property
    def name(self) -> str:
        """The cluster's name."""
        return self.settings.name

    @property
    def kubeconfig(self) -> Path:
        """Credentials of a cluster admin."""
        return self.settings.folder / "kubeconfig"

    @property
    def prometheus_url(self) -> str:
        """Prometheus, for host and pods alike."""
        return f"http://{self.settings.addresses.node}:{PROMETHEUS_PORT}"

    @property
    def host_address(self) -> str:
        """Address by which pods reach a server of the host."""
        return self.settings.addresses.host

    def is_healthy(self) -> bool:
        """Return whether the API server answers and the real node is Ready."""
        return is_ready(self.kubeconfig) and self._node_is_ready()

    def _node_is_ready(self) -> bool:
        body = fetch(self.kubeconfig, f"/api/v1/nodes/{self.settings.node}")
        if body is None:
            return False
        conditions = json.loads(body).get("status", {}).get("conditions", [])
        return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)

    def processes(self) -> dict[str, int]:
        """Return the host's pid of each program of the node that runs now."""
        return namespaces.find_processes(self.settings.cgroup)

    def load_image(self, archive: Path) -> None:
        """Load an OCI or docker archive into containerd."""
        containers.import_archive(self.init_pid, archive)

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl as admin and return its stdout. Raises ClusterError with its stderr."""
        program = ensure_binaries(("kubectl",))["kubectl"]
        argv = [str(program), f"--kubeconfig={self.kubeconfig}", *arguments]
        return run(argv, f"kubectl {' '.join(arguments)}", stdin=stdin)


def find(name: str) -> LocalCluster | None:
    """Return the cluster called `name` if its node is alive, healthy or not."""
    settings = read_settings(name)
    pid = namespaces.find_init(cgroup_name(name))
    if settings is None or pid is None:
        return None
    return LocalCluster(settings, pid)


def up(
    name: str,
    *,
    gpus: int = 8,
    kwok: bool = False,
    prometheus: bool = True,
    scrape_seconds: float = 2.0,
    extra_arguments: Mapping[str, Sequence[str]] | None = None,
    report: Report = to_stderr,
) -> LocalCluster:
    """Return the healthy cluster called `name`, booting it when it does not exist.

    A healthy cluster is not changed, whatever the other arguments are. A broken one is removed
    and booted again.

    Raises MissingTool without root or programs, NotReady when the node does not get Ready.
    """
    require_root("A local cluster")
    ensure_packages(NODE_PROGRAMS, report)
    programs = ensure_binaries(report=report)
    with exclusive(
        _lock(name), lambda: report(f"Waiting: another process starts or stops cluster {name}.")
    ):
        running = find(name)
        if running is not None and running.is_healthy():
            report(f"Cluster {name} is up.")
            return running
        _down(name)
        started = time.monotonic()
        settings = _claim(
            name,
            gpus=gpus,
            kwok=kwok,
            prometheus=prometheus,
            scrape_seconds=scrape_seconds,
            extra_arguments={key: list(value) for key, value in (extra_arguments or {}).items()},
        )
        try:
            cluster = _boot(settings, programs)
        except BaseException:
            if not _keep_after_failure():
                _down(name)
            raise
        report(f"Cluster {name} is up after {time.monotonic() - started:.1f} s.")
        return cluster


def _keep_after_failure() -> bool:
    return os.environ.get("R1_KEEP_FAILED_CLUSTER") == "1"


def _lock(name: str) -> Path:
    # Not in the state, which `down` removes: a lock file that goes away locks nothing.
    return cache_root() / "locks" / f"{name}.lock"


def _claim(name: str, **choices: object) -> ClusterSettings:
    """Assign the cluster its number and folder, one process at a time."""
    with exclusive(_lock("addresses")):
        index = choose_index((each.index for each in known_clusters()), link.host_routes())
        if index is None:
            raise ClusterError(
                "All 40 local networks are in use. Remove a cluster: r1-cluster down --name NAME"
            )
        settings = ClusterSettings(name=name, index=index, **choices)  # type: ignore[arg-type]
        settings.folder.mkdir(parents=True)
        settings.folder.chmod(0o700)
        settings.write()
        return settings


def _boot(settings: ClusterSettings, programs: Mapping[str, Path]) -> LocalCluster:
    folder = settings.folder
    _write_files(settings)
    with exclusive(_lock("mount-points")):
        pid = namespaces.start_node(settings, plan_processes(settings, programs))
    cluster = LocalCluster(settings, pid)
    link.connect(settings.addresses, pid)
    namespaces.wire(settings)
    socket = folder / "run" / "containerd.sock"
    wait_until(socket.exists, lambda: _not_ready(settings, "containerd"), READY_SECONDS)
    pause = folder / "pause.tar"
    containers.write_pause_archive(pause, programs["pause"], PAUSE_IMAGE)
    _import_when_served(pid, pause)
    wait_until(
        lambda: is_ready(cluster.kubeconfig),
        lambda: _not_ready(settings, "kube-apiserver"),
        READY_SECONDS,
    )
    wait_until(cluster.is_healthy, lambda: _not_ready(settings, "kubelet"), READY_SECONDS)
    _advertise_gpus(cluster)
    # Pods are refused until their namespace has its service account.
    wait_until(
        lambda: (
            fetch(cluster.kubeconfig, "/api/v1/namespaces/default/serviceaccounts/default")
            is not None
        ),
        lambda: _not_ready(settings, "kube-controller-manager"),
        READY_SECONDS,
    )
    return cluster


def _import_when_served(pid: int, archive: Path) -> None:
    """Import images once containerd responds: its socket exists slightly earlier."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return containers.import_archive(pid, archive)
        except ClusterError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def _write_files(settings: ClusterSettings) -> None:
    folder, certs, addresses = settings.folder, settings.certs, settings.addresses
    write_certificates(certs, addresses.node, addresses.kubernetes_service)
    authority = certificates.KeyPair(certs / "ca.crt", certs / "ca.key")
    clients = dict(CLIENTS) | {"kubelet": (f"system:node:{settings.node}", ("system:nodes",))}
    for name, (user, groups) in clients.items():
        names = (f"IP:{addresses.node}",) if name == "kubelet" else ()
        pair = certificates.issue(certs, name, authority, user, groups, names)
        target = folder / f"{name}.kubeconfig"
        write_kubeconfig(target, settings.server, certs / "ca.crt", pair, settings.name)
    masters = ("system:masters",)
    certificates.issue(certs, "apiserver-kubelet", authority, "kube-apiserver-kubelet", masters)
    admin = certificates.KeyPair(certs / "admin.crt", certs / "admin.key")
    name = f"r1-cluster-{settings.name}"
    write_kubeconfig(folder / "kubeconfig", settings.server, certs / "ca.crt", admin, name)
    for path, text in render_all(settings).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)


def _advertise_gpus(cluster: LocalCluster) -> None:
    """Make nvidia.com/gpu schedulable, by the documented way to advertise an extended resource."""
    if cluster.settings.gpus == 0:
        return
    patch = [
        {
            "op": "add",
            "path": f"/status/{part}/nvidia.com~1gpu",
            "value": str(cluster.settings.gpus),
        }
        for part in ("capacity", "allocatable")
    ]
    arguments = ["patch", "node", cluster.settings.node, "--subresource=status", "--type=json"]
    cluster.kubectl(*arguments, f"--patch={json.dumps(patch)}")


def _not_ready(settings: ClusterSettings, process: str) -> str:
    log = settings.folder / "logs" / f"{process}.log"
    lines = log.read_text(errors="replace").splitlines()[-5:] if log.is_file() else ["no log"]
    return (
        f"{process} of cluster {settings.name} is not ready after {READY_SECONDS:.0f} s "
        "(set R1_KEEP_FAILED_CLUSTER=1 to keep its logs). Its log ends: "
        + " | ".join(lines)[-1500:]
    )


def down(name: str) -> None:
    """Remove everything of the cluster called `name`, in any state; a missing cluster is no error."""
    require_root("Taking a local cluster away")
    with exclusive(_lock(name)):
        _down(name)


def _down(name: str) -> None:
    settings = read_settings(name)
    # Killing the first process makes the kernel kill all others and drop mounts and network.
    cgroups.kill_and_remove(cgroup_name(name))
    if settings is not None:
        link.remove(settings.addresses)
    shutil.rmtree(state_folder(name), ignore_errors=True)
    if state_folder(name).exists():
        raise NotReady(f"{state_folder(name)} could not be removed. Check for a mount below it.")
    with exclusive(_lock("mount-points")):
        if not any(namespaces.find_init(each.cgroup) for each in known_clusters()):
            namespaces.remove_mount_points(clusters_root())

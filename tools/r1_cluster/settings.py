"""Settings of a local cluster, and the paths of its files."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path

from r1_cluster.addresses import Addresses
from r1_cluster.errors import ClusterError
from r1_cluster.paths import clusters_root

# What a node's programs expect at fixed places; inside the node these are our own folders, and
# the host's are hidden. Target in the node -> folder under the state folder.
NODE_FOLDERS = {
    "/var/lib/containerd": "containerd",
    "/run/containerd": "run",
    "/var/lib/kubelet": "kubelet",
    "/var/lib/cni": "cni-state",
    "/var/log/pods": "pod-logs",
    "/var/log/containers": "container-logs",
}
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"  # inside the node
API_PORT, PROMETHEUS_PORT = 6443, 9090


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """Settings of a cluster, fixed at boot and stored in its state folder."""

    name: str
    index: int
    gpus: int = 8
    """How many nvidia.com/gpu the node pretends to have."""
    kwok: bool = False
    prometheus: bool = True
    scrape_seconds: float = 2.0
    extra_arguments: dict[str, list[str]] = field(default_factory=dict)
    """Process name, such as "kube-controller-manager" -> flags appended to its own."""

    @property
    def addresses(self) -> Addresses:
        """The network of this cluster."""
        return Addresses(self.index)

    @property
    def folder(self) -> Path:
        """The state folder: everything the cluster writes."""
        return state_folder(self.name)

    @property
    def certs(self) -> Path:
        """The folder of certificates and keys."""
        return self.folder / "certs"

    @property
    def cgroup(self) -> str:
        """The cgroup of everything the cluster runs."""
        return cgroup_name(self.name)

    @property
    def node(self) -> str:
        """The name of the real node."""
        return f"{self.name}-node"

    @property
    def server(self) -> str:
        """The API server's address, for host and pods alike."""
        return f"https://{self.addresses.node}:{API_PORT}"

    def write(self) -> None:
        """Write the settings to the state folder."""
        (self.folder / "settings.json").write_text(json.dumps(asdict(self), indent=1))


def check_name(name: str) -> str:
    """Return `name` if it can name a cluster. Raises ClusterError otherwise."""
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,28}[a-z0-9])?", name):
        raise ClusterError(
            f"--name {name!r} must have at most 30 characters of a-z, 0-9 and '-', with a letter or digit "
            "at both ends."
        )
    return name


def state_folder(name: str) -> Path:
    """Return the state folder of the cluster called `name`."""
    return clusters_root() / check_name(name)


def cgroup_name(name: str) -> str:
    """Return the cgroup of the cluster called `name`."""
    return f"r1-cluster-{check_name(name)}"


def read_settings(name: str) -> ClusterSettings | None:
    """Return the settings a cluster was booted with, or None if it has no state."""
    path = state_folder(name) / "settings.json"
    if not path.is_file():
        return None
    return ClusterSettings(**json.loads(path.read_text()))


def known_clusters() -> list[ClusterSettings]:
    """Return the settings of every cluster that has state on this machine."""
    names = sorted(path.parent.name for path in clusters_root().glob("*/settings.json"))
    return [found for name in names if (found := read_settings(name)) is not None]

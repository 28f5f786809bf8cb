"""Which cluster to use: the one given on purpose, else kind, else the local one.

What each can do differs, and callers ask instead of assuming:

| | given | kind | local |
|---|---|---|---|
| admin kubeconfig | yes | yes | yes |
| `load_image` | no: push to a registry the cluster reads | yes | yes |
| fake GPUs, kwok, Prometheus, host address | no | no | yes |
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from r1_cluster import cluster as local
from r1_cluster.commands import attempt, run
from r1_cluster.errors import ClusterError, MissingTool
from r1_cluster.paths import state_root
from r1_cluster.programs.binaries import ensure_binaries


class Cluster(Protocol):
    """The interface of any cluster, for tests, demo and benchmarks."""

    @property
    def name(self) -> str:
        """The cluster's name."""
        ...

    @property
    def kubeconfig(self) -> Path:
        """Credentials of a cluster admin."""
        ...

    @property
    def prometheus_url(self) -> str | None:
        """A Prometheus that scrapes annotated pods, or None."""
        ...

    @property
    def host_address(self) -> str | None:
        """Address by which pods reach a server of this machine, or None."""
        ...

    def load_image(self, archive: Path) -> None:
        """Make the image of an OCI or docker archive known to the nodes."""

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl as admin and return its stdout. Raises ClusterError with its stderr."""
        ...


@dataclass(frozen=True, slots=True)
class GivenCluster:
    """A cluster that is not managed here."""

    kubeconfig: Path
    name: str = "given"
    prometheus_url: str | None = None
    host_address: str | None = None

    def load_image(self, archive: Path) -> None:
        """Refuse: there is no way into a foreign cluster's nodes."""
        raise ClusterError(
            f"{archive.name} cannot be loaded into the cluster of {self.kubeconfig}. Push the "
            "image to a registry that its nodes read."
        )

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl with the given kubeconfig."""
        return run_kubectl(self.kubeconfig, *arguments, stdin=stdin)


@dataclass(frozen=True, slots=True)
class KindCluster:
    """A cluster that kind made in Docker."""

    name: str
    kubeconfig: Path
    prometheus_url: str | None = None
    host_address: str | None = None

    def load_image(self, archive: Path) -> None:
        """Load a docker archive into kind's node."""
        argv = ["kind", "load", "image-archive", str(archive), "--name", self.name]
        run(argv, f"kind could not load {archive}")

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl on kind's cluster."""
        return run_kubectl(self.kubeconfig, *arguments, stdin=stdin)


def run_kubectl(kubeconfig: Path, *arguments: str, stdin: str | None = None) -> str:
    """Run the pinned kubectl and return its stdout. Raises ClusterError with its stderr."""
    program = ensure_binaries(("kubectl",))["kubectl"]
    argv = [str(program), f"--kubeconfig={kubeconfig}", *arguments]
    return run(argv, f"kubectl {' '.join(arguments)}", stdin=stdin)


def given_kubeconfig(environment: Mapping[str, str] = os.environ) -> Path | None:
    """Return KUBECONFIG when R1_USE_KUBECONFIG=1, else None.

    A KUBECONFIG without the opt-in may belong to a production cluster. Raises ClusterError when
    it names no file.
    """
    if environment.get("R1_USE_KUBECONFIG") != "1":
        return None
    path = Path(environment.get("KUBECONFIG", ""))
    if not path.is_file():
        raise ClusterError("R1_USE_KUBECONFIG=1 requires KUBECONFIG to name one existing file.")
    return path


def kind_works() -> bool:
    """Return whether kind and a Docker that answers are here (R1_CLUSTER=local says no)."""
    if os.environ.get("R1_CLUSTER") == "local" or shutil.which("kind") is None:
        return False
    return shutil.which("docker") is not None and attempt(["docker", "info"]).returncode == 0


def find(name: str) -> Cluster | None:
    """Return the running cluster that `obtain` would use, or None."""
    given = given_kubeconfig()
    if given is not None:
        return GivenCluster(given)
    if kind_works():
        names = run(["kind", "get", "clusters"], "kind get clusters failed").split()
        return _kind(name) if name in names else None
    running = local.find(name)
    return running if running is not None and running.is_healthy() else None


def obtain(name: str, *, kwok: bool = False) -> Cluster:
    """Return a running cluster: given, kind's, or the local one called `name`.

    Raises ClusterError when none is available.
    """
    running = find(name)
    if running is not None:
        return running
    if kind_works():
        run(["kind", "create", "cluster", "--name", name, "--wait", "180s"], "kind failed")
        return _kind(name)
    try:
        return local.up(name, kwok=kwok)
    except MissingTool as error:
        raise ClusterError(
            f"No cluster is available: kind and Docker are missing, and {error}"
        ) from None


def release(name: str) -> None:
    """Remove the cluster that `obtain(name)` created; a given one stays."""
    if given_kubeconfig() is not None:
        return
    if kind_works():
        run(["kind", "delete", "cluster", "--name", name], "kind delete failed")
        _kind_kubeconfig(name).unlink(missing_ok=True)
    else:
        local.down(name)


def _kind_kubeconfig(name: str) -> Path:
    return state_root() / f"kind-{name}.kubeconfig"


def _kind(name: str) -> KindCluster:
    text = run(["kind", "get", "kubeconfig", "--name", name], "kind get kubeconfig failed")
    path = _kind_kubeconfig(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(text)
    return KindCluster(name, path)

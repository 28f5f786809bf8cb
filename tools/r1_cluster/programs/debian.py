"""Programs of the distribution: installed as root, otherwise named in one error."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from r1_cluster.commands import run
from r1_cluster.errors import MissingTool
from r1_cluster.programs.binaries import to_stderr
from r1_cluster.programs.build_progress import Report

# Program (a name on PATH, or a file) -> the Debian package that brings it.
NODE_PROGRAMS: Mapping[str, str] = {
    "containerd": "containerd",
    "ctr": "containerd",
    "containerd-shim-runc-v2": "containerd",
    "runc": "runc",
    "/usr/lib/cni/ptp": "containernetworking-plugins",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "mount": "mount",
    "openssl": "openssl",
    "prometheus": "prometheus",
    "promtool": "prometheus",
}
IMAGE_PROGRAMS: Mapping[str, str] = {
    "buildah": "buildah",
    "debootstrap": "debootstrap",
    "/usr/share/keyrings/debian-archive-keyring.gpg": "debian-archive-keyring",
}


def missing_packages(programs: Mapping[str, str]) -> list[str]:
    """Return the packages of the missing programs, each once, sorted."""
    return sorted({package for program, package in programs.items() if not _present(program)})


def _present(program: str) -> bool:
    if program.startswith("/"):
        return Path(program).exists()
    return shutil.which(program, path=search_path()) is not None


def search_path() -> str:
    """Return PATH with the sbin folders, which a plain user's PATH lacks."""
    return os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"


def ensure_packages(programs: Mapping[str, str], report: Report = to_stderr) -> None:
    """Install missing packages. Raises MissingTool with one apt line when that is impossible."""
    packages = missing_packages(programs)
    if not packages:
        return
    line = "apt-get install " + " ".join(packages)
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise MissingTool(f"Programs are missing. Install them as root: {line}")
    report(f"Installing {' '.join(packages)}.")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    failure = f"Debian packages could not be installed. Install them: {line}"
    run(["apt-get", "update", "-q"], failure, environment=environment, error=MissingTool)
    run(
        ["apt-get", "install", "-y", "-q", "--no-install-recommends", *packages],
        failure,
        environment=environment,
        error=MissingTool,
    )
    still = missing_packages(programs)
    if still:
        raise MissingTool(
            f"apt-get installed {packages}, but {still} provide no program. Check PATH."
        )


def require_root(what: str) -> None:
    """Raise MissingTool unless this process is root."""
    if os.geteuid() != 0:
        raise MissingTool(
            f"{what} requires root (namespaces, cgroups, containerd). Run it with sudo, or set "
            "R1_USE_KUBECONFIG=1 and KUBECONFIG to use an existing cluster."
        )

"""Pinned programs, their versions, and the cache key of a set.

Kubernetes and etcd are pinned by tools/go.mod (etcd's own module has replace directives, so `go
install` refuses it); the others by `go install module@version`. Kubernetes stays on 1.34: from
1.35 the kubelet refuses cgroup v1 by default, and 1.36 requires containerd 2.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from r1_cluster.errors import ClusterError

KUBERNETES = "k8s.io/kubernetes"
ETCD = "go.etcd.io/etcd/server/v3"
KUBERNETES_COMMANDS = (
    "kube-apiserver",
    "kubectl",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
)
APISERVER_SET = ("etcd", "kube-apiserver", "kubectl")  # what KUBEBUILDER_ASSETS holds
# Recipe of the build; part of the key, so that a change of flags makes a new cache folder.
RECIPE = "3"


@dataclass(frozen=True, slots=True)
class InstallPin:
    """A program that `go install package@version` builds on its own."""

    name: str
    package: str
    version: str


INSTALL_PINS = (
    InstallPin("helm", "helm.sh/helm/v3/cmd/helm", "v3.22.0"),
    InstallPin("coredns", "github.com/coredns/coredns", "v1.14.7"),
    InstallPin("kwok", "sigs.k8s.io/kwok/cmd/kwok", "v0.8.0"),
)
ALL_BINARIES = ("etcd", *KUBERNETES_COMMANDS, *(pin.name for pin in INSTALL_PINS), "pause")


def module_version(go_mod: str, module: str) -> str:
    """Return the version that the text of a go.mod requires of `module`.

    Raises ClusterError when the module is not required there.
    """
    match = re.search(rf"^\s*(?:require\s+)?{re.escape(module)}\s+(v\S+)", go_mod, re.MULTILINE)
    if match is None:
        raise ClusterError(f"tools/go.mod does not pin {module}. Add a require line for it.")
    return match.group(1)


def version_flags(version: str) -> str:
    """Return the linker flags that stamp a Kubernetes version such as "v1.34.4".

    Without the stamp the server calls itself v0.0.0 and clients misbehave.
    """
    major, minor = version.removeprefix("v").split(".")[:2]
    component = "k8s.io/component-base/version"
    stamps = (
        (f"{component}.gitVersion", version),
        (f"{component}.gitMajor", major),
        (f"{component}.gitMinor", minor),
        ("k8s.io/client-go/pkg/version.gitVersion", version),
    )
    return " ".join(["-s -w", *(f"-X {name}={value}" for name, value in stamps)])


def install_flags(name: str, version: str) -> str:
    """Return the linker flags of a program of INSTALL_PINS; `version` is Kubernetes', "v1.34.4".

    Without its stamp `helm template` assumes Kubernetes v1.20, which the chart refuses.
    """
    if name != "helm":
        return "-s -w"
    major, minor = version.removeprefix("v").split(".")[:2]
    packages = ("helm.sh/helm/v3/pkg/chartutil", "helm.sh/helm/v3/pkg/lint/rules")
    stamps = ((each, *stamp) for each in packages for stamp in (("Major", major), ("Minor", minor)))
    return " ".join(["-s -w", *(f"-X {p}.k8sVersion{part}={n}" for p, part, n in stamps)])


def cache_key(tools: Path) -> str:
    """Return the key of the set that the pins in folder `tools` describe: 16 hex digits."""
    digest = hashlib.sha256(RECIPE.encode())
    for name in ("go.mod", "go.sum", "pause/main.go"):
        digest.update((tools / name).read_bytes())
    for pin in INSTALL_PINS:
        digest.update(f"{pin.package}@{pin.version}".encode())
    return digest.hexdigest()[:16]

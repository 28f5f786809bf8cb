"""The processes of a node: their command lines and what each waits for. Pure."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from r1_cluster.control_plane.controlplane import apiserver_arguments, etcd_arguments
from r1_cluster.node.node_files import POD_TARGETS
from r1_cluster.programs.binaries import KWOK_STAGES
from r1_cluster.settings import (
    API_PORT,
    CONTAINERD_SOCKET,
    NODE_FOLDERS,
    PROMETHEUS_PORT,
    ClusterSettings,
)

KWOK_ANNOTATION = "kwok.x-k8s.io/node=fake"


@dataclass(frozen=True, slots=True)
class Process:
    """One process that the node keeps running; `after` as in node_init.Service."""

    name: str
    argv: list[str]
    after: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)


def plan_processes(settings: ClusterSettings, programs: Mapping[str, Path]) -> list[Process]:
    """Return the node's processes; `programs` holds the paths of the pinned binaries."""
    api = [f"tcp:{settings.addresses.node}:{API_PORT}"]
    plain = [
        Process("etcd", _etcd(settings, programs)),
        Process("containerd", ["containerd", "--config", f"{settings.folder}/containerd.toml"]),
        Process("kube-apiserver", _apiserver(settings, programs), ["tcp:127.0.0.1:2379"]),
        Process("kube-controller-manager", _controller_manager(settings, programs), api),
        Process("kube-scheduler", _scheduler(settings, programs), api),
        Process("kubelet", _kubelet(settings, programs), [*api, f"unix:{CONTAINERD_SOCKET}"]),
        Process(
            "kube-proxy",
            [str(programs["kube-proxy"]), f"--config={settings.folder}/kube-proxy.yaml"],
            api,
        ),
        Process("coredns", [str(programs["coredns"]), "-conf", f"{settings.folder}/Corefile"], api),
    ]
    if settings.prometheus:
        plain.append(Process("prometheus", _prometheus(settings)))
        plain.append(Process("pod_targets", _pod_targets(settings), api))
    if settings.kwok:
        plain.append(Process("kwok", _kwok(settings, programs), api))
    return [
        Process(
            each.name,
            [*each.argv, *settings.extra_arguments.get(each.name, [])],
            each.after,
            each.environment,
        )
        for each in plain
    ]


def node_binds(settings: ClusterSettings) -> dict[str, str]:
    """Return the folders of ours that hide the host's inside the node: target -> source."""
    return {target: f"{settings.folder}/{source}" for target, source in NODE_FOLDERS.items()}


def _etcd(settings: ClusterSettings, programs: Mapping[str, Path]) -> list[str]:
    data = settings.folder / "etcd"
    client, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
    return [str(programs["etcd"]), *etcd_arguments(data, client, peer)]


def _apiserver(settings: ClusterSettings, programs: Mapping[str, Path]) -> list[str]:
    certs, addresses = settings.certs, settings.addresses
    shared = apiserver_arguments(
        certs,
        "http://127.0.0.1:2379",
        addresses.node,
        API_PORT,
        addresses.services,
        settings.folder / "logs" / "audit.jsonl",
    )
    return [
        str(programs["kube-apiserver"]),
        *shared,
        "--enable-admission-plugins=NodeRestriction",
        f"--kubelet-certificate-authority={certs}/ca.crt",
        f"--kubelet-client-certificate={certs}/apiserver-kubelet.crt",
        f"--kubelet-client-key={certs}/apiserver-kubelet.key",
        # By name, exec and logs would ask a DNS that does not have the node.
        "--kubelet-preferred-address-types=InternalIP",
        # Aggregated APIs are called at their pods' addresses.
        "--enable-aggregator-routing=true",
        # Two weeks of tests would fill the disk otherwise.
        "--audit-log-maxsize=200",
        "--audit-log-maxbackup=1",
    ]


def _controller_manager(settings: ClusterSettings, programs: Mapping[str, Path]) -> list[str]:
    certs = settings.certs
    return [
        str(programs["kube-controller-manager"]),
        f"--kubeconfig={settings.folder}/kube-controller-manager.kubeconfig",
        "--bind-address=127.0.0.1",
        "--leader-elect=false",
        "--use-service-account-credentials=true",
        f"--service-account-private-key-file={certs}/service-account.key",
        f"--root-ca-file={certs}/ca.crt",
        f"--cluster-signing-cert-file={certs}/ca.crt",
        f"--cluster-signing-key-file={certs}/ca.key",
        # Thousands of simulated pods at a time.
        "--kube-api-qps=300",
        "--kube-api-burst=600",
        "--concurrent-deployment-syncs=20",
        "--concurrent-replicaset-syncs=20",
    ]


def _scheduler(settings: ClusterSettings, programs: Mapping[str, Path]) -> list[str]:
    config = f"--config={settings.folder}/kube-scheduler.yaml"
    return [str(programs["kube-scheduler"]), config, "--bind-address=127.0.0.1"]


def _kubelet(settings: ClusterSettings, programs: Mapping[str, Path]) -> list[str]:
    return [
        str(programs["kubelet"]),
        f"--config={settings.folder}/kubelet.yaml",
        f"--kubeconfig={settings.folder}/kubelet.kubeconfig",
        f"--hostname-override={settings.node}",
        f"--node-ip={settings.addresses.node}",
    ]


def _prometheus(settings: ClusterSettings) -> list[str]:
    return [
        "prometheus",
        f"--config.file={settings.folder}/prometheus.yaml",
        f"--storage.tsdb.path={settings.folder}/prometheus",
        "--storage.tsdb.retention.time=90d",
        f"--web.listen-address={settings.addresses.node}:{PROMETHEUS_PORT}",
        "--web.enable-lifecycle",
        "--web.enable-admin-api",
        "--web.enable-remote-write-receiver",
        "--log.level=warn",
    ]


def _pod_targets(settings: ClusterSettings) -> list[str]:
    folder = settings.folder
    module = [sys.executable, "-m", "r1_cluster.monitoring.pod_targets"]
    return [*module, f"{folder}/prometheus.kubeconfig", settings.node, f"{folder}/{POD_TARGETS}"]


def _kwok(settings: ClusterSettings, programs: Mapping[str, Path]) -> list[str]:
    program = programs["kwok"]
    return [
        str(program),
        f"--kubeconfig={settings.folder}/kwok.kubeconfig",
        f"--config={program.parent / KWOK_STAGES}",
        "--manage-all-nodes=false",
        f"--manage-nodes-with-annotation-selector={KWOK_ANNOTATION}",
        "--node-lease-duration-seconds=40",
    ]

"""Simulated nodes of kwok: they carry thousands of pods that run nowhere.

They are tainted, so that only pods that tolerate the taint land there: use
`simulated_pod_settings`, or `taint=False` for all pods.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from r1_cluster.node.node_files import KWOK_NODE_PREFIX

TAINT_KEY = "kwok.x-k8s.io/node"


def build_kwok_node(number: int, gpus: int, cpus: int, pods: int, taint: bool) -> dict[str, Any]:
    """Return the manifest of one simulated node."""
    capacity = {
        "cpu": str(cpus),
        "memory": "2Ti",
        "pods": str(pods),
        "ephemeral-storage": "1Ti",
        "nvidia.com/gpu": str(gpus),
    }
    name = f"{KWOK_NODE_PREFIX}{number}"
    spec: dict[str, Any] = {}
    if taint:
        spec["taints"] = [{"key": TAINT_KEY, "value": "fake", "effect": "NoSchedule"}]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {"kwok.x-k8s.io/node": "fake"},
            "labels": {"type": "kwok", "kubernetes.io/hostname": name},
        },
        "spec": spec,
        "status": {"capacity": capacity, "allocatable": capacity},
    }


def simulated_pod_settings() -> dict[str, Any]:
    """Return what a PodSpec needs to land on simulated nodes and nowhere else."""
    return {
        "nodeSelector": {"type": "kwok"},
        "tolerations": [{"key": TAINT_KEY, "operator": "Exists", "effect": "NoSchedule"}],
    }


def add_kwok_nodes(
    kubectl: Callable[..., str],
    count: int,
    *,
    gpus: int = 8,
    cpus: int = 512,
    pods: int = 1000,
    taint: bool = True,
    first: int = 0,
) -> list[str]:
    """Create `count` simulated nodes, numbered from `first`, and return their names.

    `kubectl` is LocalCluster.kubectl; the cluster must run kwok (`up(kwok=True)`).
    """
    nodes = [build_kwok_node(first + i, gpus, cpus, pods, taint) for i in range(count)]
    document = {"apiVersion": "v1", "kind": "List", "items": nodes}
    kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(document))
    return [node["metadata"]["name"] for node in nodes]

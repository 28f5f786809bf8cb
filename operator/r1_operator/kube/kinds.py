"""Kinds of objects that the operator reads or writes, and their URL paths.

Everything else in `kube` is generic over `Kind`: another child kind needs one line here and one
reflector in `controller/watch/wiring.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

Json = dict[str, Any]


class Key(NamedTuple):
    """Namespace and name: the identity of an object within its kind, and the key of the work queue."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Kind:
    """One API resource, with what its URLs need."""

    group: str
    version: str
    plural: str
    name: str

    @property
    def api_version(self) -> str:
        """`v1` or `group/version`, as in manifests."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(
        self, namespace: str | None = None, name: str | None = None, subresource: str | None = None
    ) -> str:
        """The URL path of the collection, of one object, or of one of its subresources."""
        parts = ["/apis", self.group, self.version] if self.group else ["/api", self.version]
        if namespace is not None:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        if name is not None:
            parts.append(name)
        if subresource is not None:
            parts.append(subresource)
        return "/".join(parts)


R1INFERENCE = Kind("deepseek.ai", "v1", "r1inferences", "R1Inference")
R1BACKTEST = Kind("deepseek.ai", "v1", "r1backtests", "R1Backtest")
DEPLOYMENT = Kind("apps", "v1", "deployments", "Deployment")
SERVICE = Kind("", "v1", "services", "Service")
CONFIG_MAP = Kind("", "v1", "configmaps", "ConfigMap")
POD_DISRUPTION_BUDGET = Kind("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
SERVICE_MONITOR = Kind("monitoring.coreos.com", "v1", "servicemonitors", "ServiceMonitor")
JOB = Kind("batch", "v1", "jobs", "Job")
POD = Kind("", "v1", "pods", "Pod")
NODE = Kind("", "v1", "nodes", "Node")
ENDPOINT_SLICE = Kind("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")
LEASE = Kind("coordination.k8s.io", "v1", "leases", "Lease")
EVENT = Kind("events.k8s.io", "v1", "events", "Event")

CUSTOM_RESOURCES = (R1INFERENCE, R1BACKTEST)
"""Kinds that people write."""

CHILD_KINDS = (DEPLOYMENT, SERVICE, CONFIG_MAP, POD_DISRUPTION_BUDGET, SERVICE_MONITOR)
"""Kinds of children, in the order in which they are applied."""

BY_NAME = {kind.name: kind for kind in (R1INFERENCE, *CHILD_KINDS, POD, ENDPOINT_SLICE)}


def key_of(obj: Json) -> Key:
    """The key of a namespaced object."""
    metadata = obj["metadata"]
    return Key(metadata.get("namespace", ""), metadata["name"])

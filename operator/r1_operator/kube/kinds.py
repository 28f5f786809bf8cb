"""The kinds of objects that the operator reads or writes, and their addresses.

Plain data: everything else in `kube` is generic over a `Kind`, so that a further child is one line
here and one watch in the controller's wiring.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

Json = dict[str, Any]


class Key(NamedTuple):
    """Namespace and name: what identifies an object of one kind, and a unit of work."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Kind:
    """One API resource: enough to build its URLs."""

    group: str
    version: str
    plural: str
    name: str

    @property
    def api_version(self) -> str:
        """`v1` or `group/version`, as manifests spell it."""
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
DEPLOYMENT = Kind("apps", "v1", "deployments", "Deployment")
SERVICE = Kind("", "v1", "services", "Service")
CONFIG_MAP = Kind("", "v1", "configmaps", "ConfigMap")
POD_DISRUPTION_BUDGET = Kind("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
SERVICE_MONITOR = Kind("monitoring.coreos.com", "v1", "servicemonitors", "ServiceMonitor")
POD = Kind("", "v1", "pods", "Pod")
NODE = Kind("", "v1", "nodes", "Node")
ENDPOINT_SLICE = Kind("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")
LEASE = Kind("coordination.k8s.io", "v1", "leases", "Lease")
EVENT = Kind("events.k8s.io", "v1", "events", "Event")

CHILD_KINDS = (DEPLOYMENT, SERVICE, CONFIG_MAP, POD_DISRUPTION_BUDGET, SERVICE_MONITOR)
"""Everything the operator may own, in the order in which it is applied."""

BY_NAME = {kind.name: kind for kind in (R1INFERENCE, *CHILD_KINDS, POD, ENDPOINT_SLICE)}


def key_of(obj: Json) -> Key:
    """The key of a namespaced object as the API server returned it."""
    metadata = obj["metadata"]
    return Key(metadata.get("namespace", ""), metadata["name"])

"""Which IP family a pod uses first, on a cluster that has both."""

from __future__ import annotations

import os
from collections.abc import Mapping


def prefers_ipv6(environment: Mapping[str, str] | None = None) -> bool:
    """Whether the cluster's first family is IPv6.

    The Service of the API server has one address, of the cluster's first family, and Kubernetes
    puts it into every pod.  False where there is none: outside a cluster.
    """
    env = os.environ if environment is None else environment
    return ":" in env.get("KUBERNETES_SERVICE_HOST", "")

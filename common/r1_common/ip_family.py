"""Choice of one address per pod in a dual-stack cluster."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping


def prefers_ipv6(environment: Mapping[str, str] | None = None) -> bool:
    """Whether the primary IP family of the cluster is IPv6.

    The Service of the API server has one address, of the primary family, and Kubernetes sets it in
    the environment of every pod. False outside a cluster.
    """
    env = os.environ if environment is None else environment
    return ":" in env.get("KUBERNETES_SERVICE_HOST", "")


def choose_address(
    readiness: Mapping[str, bool], addresses: Collection[str], *, ipv6_first: bool
) -> str:
    """Choose the address of a pod; the order of ``addresses`` does not matter.

    Addresses are ``host:port``, with brackets around IPv6. The primary family has precedence over
    readiness: the EndpointSlices of the two families are updated one after the other, and a pod must
    not change its address in between.
    """
    return max(
        addresses,
        key=lambda address: (
            address.startswith("[") == ipv6_first,
            readiness.get(address, False),
            address,
        ),
    )

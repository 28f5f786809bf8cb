"""One address for each pod, on a cluster where pods have one of each IP family."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping


def prefers_ipv6(environment: Mapping[str, str] | None = None) -> bool:
    """Whether the cluster's first family is IPv6.

    The Service of the API server has one address, of the cluster's first family, and Kubernetes
    puts it into every pod.  False where there is none: outside a cluster.
    """
    env = os.environ if environment is None else environment
    return ":" in env.get("KUBERNETES_SERVICE_HOST", "")


def choose_address(
    readiness: Mapping[str, bool], addresses: Collection[str], *, ipv6_first: bool
) -> str:
    """The one address of ``addresses`` to reach a pod at; the same for every order of them.

    Addresses are ``host:port``, with brackets around IPv6.  The first family goes before
    readiness: the slices of the two families are updated one after the other, and a pod must not
    change its address meanwhile.
    """
    return max(
        addresses,
        key=lambda address: (
            address.startswith("[") == ipv6_first,
            readiness.get(address, False),
            address,
        ),
    )

"""Which addresses a cluster uses: one /16 each, so that clusters never meet, one host route.

Cluster number i owns 10.(210+i).0.0/16:

    10.x.0.1       the host's end of the veth pair: where pods reach host processes
    10.x.0.2       the node: API server, Prometheus, DNS
    10.x.64.0/18   Services
    10.x.128.0/17  pods

The node lives in a network namespace of its own, so ports need no choosing and kube-proxy's
iptables rules never touch the host's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network

FIRST, LAST = 210, 249


@dataclass(frozen=True, slots=True)
class Addresses:
    """The addresses of cluster number `index`."""

    index: int

    @property
    def _prefix(self) -> str:
        return f"10.{FIRST + self.index}"

    @property
    def network(self) -> str:
        """The /16 that the host routes to the node."""
        return f"{self._prefix}.0.0/16"

    @property
    def host(self) -> str:
        """The host, as pods reach it."""
        return f"{self._prefix}.0.1"

    @property
    def node(self) -> str:
        """The node, as host and pods reach it."""
        return f"{self._prefix}.0.2"

    @property
    def services(self) -> str:
        """The CIDR of ClusterIPs."""
        return f"{self._prefix}.64.0/18"

    @property
    def kubernetes_service(self) -> str:
        """The ClusterIP of the API server: the first of the range."""
        return f"{self._prefix}.64.1"

    @property
    def pods(self) -> str:
        """The CIDR of pods."""
        return f"{self._prefix}.128.0/17"

    @property
    def link(self) -> str:
        """The name of the host's end of the veth pair (15 characters at most)."""
        return f"r1veth{self.index}"


def choose_index(taken: Iterable[int], routes: Iterable[str]) -> int | None:
    """Return the lowest number whose /16 no cluster has and no route of the host overlaps.

    `routes` are destinations in CIDR form; a default route does not count. None when all
    forty are in use.
    """
    used = set(taken)
    networks = [IPv4Network(route, strict=False) for route in routes]
    for index in range(LAST - FIRST + 1):
        own = IPv4Network(Addresses(index).network)
        if index not in used and not any(own.overlaps(each) for each in networks):
            return index
    return None

"""The link between the host and a node: a veth pair and one route, created on the host's side."""

from __future__ import annotations

import json

from r1_cluster.addresses import Addresses
from r1_cluster.commands import attempt, run
from r1_cluster.waiting import wait_until


def host_routes() -> list[str]:
    """Return the destinations of the host's IPv4 routes, default routes left out."""
    answer = run(["ip", "-4", "-json", "route", "show", "table", "all"], "ip route failed")
    routes = json.loads(answer or "[]")
    return [
        route["dst"]
        for route in routes
        if route["dst"] != "default" and route.get("type") not in ("broadcast", "multicast")
    ]


def connect(addresses: Addresses, init_pid: int) -> None:
    """Create the link into the network namespace of process `init_pid`."""
    host, node = f"{addresses.host}/30", f"{addresses.node}/30"
    link = addresses.link
    failure = f"laying the network link {link} failed"
    # One batch each: a program start per line would cost more than the work.
    run(
        ["ip", "-batch", "-"],
        failure,
        stdin=(
            f"link add {link} type veth peer name eth0 netns {init_pid}\n"
            f"address add {host} dev {link}\n"
            f"link set {link} up\n"
        ),
    )
    run(
        ["nsenter", f"--target={init_pid}", "--net", "ip", "-batch", "-"],
        failure,
        stdin=f"link set lo up\naddress add {node} dev eth0\nlink set eth0 up\n",
    )
    run(["ip", "route", "add", addresses.network, "via", addresses.node, "dev", link], failure)


def exists(addresses: Addresses) -> bool:
    """Return whether the host's end of the link exists."""
    return attempt(["ip", "link", "show", "dev", addresses.link]).returncode == 0


def remove(addresses: Addresses) -> None:
    """Remove the link and its route; a missing link is no error."""
    attempt(["ip", "link", "delete", "dev", addresses.link])
    wait_until(
        lambda: not exists(addresses),
        lambda: f"ip link delete {addresses.link} did not work: delete it as root",
        seconds=10,
    )

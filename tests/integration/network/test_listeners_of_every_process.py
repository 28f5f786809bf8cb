"""Every process listens on IPv4 and IPv6, as far as the machine has them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import network_variants

HANG_SECONDS = 120
KUBECONFIG = """\
apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: "http://localhost:9"}}]
users: [{name: u, user: {}}]
"""
NETWORKS = {
    "IPv4 and IPv6": (network_variants.PLAIN, ("127.0.0.1", "[::1]")),
    "IPv6 alone": (network_variants.IPV6_ALONE, ("[::1]",)),
    "no IPv6 in the kernel": (network_variants.NO_IPV6, ("127.0.0.1",)),
}


def free_ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def process(part: str, folder: Path) -> tuple[list[str], list[str]]:
    """The command of a component, without a host, and the URLs that respond (`HOST` is replaced)."""
    first, second = free_ports(2)
    if part == "gateway":
        config = folder / "routes.json"
        config.write_text('{"routes": []}')
        flags = ["--config", str(config), "--port", str(first), "--admin-port", str(second)]
        urls = [f"http://HOST:{first}/v1/models", f"http://HOST:{second}/healthz"]
        return ["r1_gateway", *flags], urls
    if part == "forecaster":
        flags = ["--models", "", "--port", str(first), "--keda-port", str(second)]
        return ["r1_forecasting", *flags], [f"http://HOST:{first}/healthz", f"tcp://HOST:{second}"]
    if part == "runtime":
        flags = ["--model-path", "bundled:demo", "--threads", "1", "--port", str(first)]
        return ["r1_runtime.serve", *flags], [f"http://HOST:{first}/health"]
    return ["r1_operator", "run", "--dev", "--http-port", str(first)], [
        f"http://HOST:{first}/healthz"
    ]


@pytest.mark.parametrize("part", ["gateway", "forecaster", "runtime", "operator"])
@pytest.mark.parametrize("network", NETWORKS)
def test_process_listens_on_every_address_family_of_its_network(
    network: str, part: str, tmp_path: Path
) -> None:
    prefix, hosts = NETWORKS[network]
    reason = network_variants.unavailable(prefix)
    if reason is not None:
        pytest.skip(f"{network}: {reason}")
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(KUBECONFIG)
    command, places = process(part, tmp_path)
    urls = [url.replace("HOST", host) for host in hosts for url in places]
    probe = [sys.executable, network_variants.__file__, "answers", str(HANG_SECONDS), *urls, "--"]
    done = subprocess.run(
        [*prefix, *probe, sys.executable, "-m", *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=2 * HANG_SECONDS,
        env=os.environ | {"KUBECONFIG": str(kubeconfig)},
    )
    assert done.stdout, done.stderr
    assert json.loads(done.stdout) == dict.fromkeys(urls, True), done.stderr

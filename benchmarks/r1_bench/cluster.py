"""Startup times: the cluster, the chart, and from a manifest to the first token.

Wall-clock seconds on this machine, several rounds each. There is no peer (kind needs Docker and a
registry), so the rows are records with the project's own bars.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import urllib.error
import urllib.request
from typing import Any

from r1_bench.rows import BenchmarkRow, write
from r1_cluster import cluster as local
from r1_cluster.errors import ClusterError
from r1_demo.setup.installation import Installation, install, with_libraries

NAME, ROUNDS, TIMEOUT_SECONDS = "bench", 3, 300.0
RESOURCE = "first-token"


def report(line: str) -> None:
    """Progress, kept off stdout."""
    print(line, file=sys.stderr)


def boot() -> float:
    """Seconds from nothing to a Ready node; the cluster is left up."""
    local.down(NAME)
    started = time.monotonic()
    local.up(NAME, report=report)
    return time.monotonic() - started


def first_token(installation: Installation) -> tuple[float, float]:
    """Seconds from `kubectl apply` to (condition Ready, the first token through the gateway)."""
    manifest: dict[str, Any] = {
        "apiVersion": "deepseek.ai/v1",
        "kind": "R1Inference",
        "metadata": {"name": RESOURCE, "namespace": "default"},
        "spec": {
            "model": {"source": {"bundled": "demo"}},
            "resources": {"requests": {"cpu": "100m", "memory": "600Mi"}},
        },
    }
    started = time.monotonic()
    installation.apply(with_libraries(installation.cluster, manifest))
    token = _first_token_seconds(f"{installation.gateway_url}/v1/completions", started)
    installation.kubectl("wait", "--for=condition=Ready", f"r1/{RESOURCE}", "--timeout=60s")
    ready = time.monotonic() - started
    installation.kubectl("delete", "r1", RESOURCE, "--timeout=120s")
    gone = time.monotonic() + 120
    while "first-token" in installation.kubectl("get", "pods", "-o", "name"):
        if time.monotonic() > gone:
            raise ClusterError("the pods of the last round still exist after 120 s")
        time.sleep(1)
    return ready, token


def _first_token_seconds(url: str, started: float) -> float:
    """Send a request as soon as the gateway knows the model; the gateway queues it until a pod is ready."""
    body = {"model": RESOURCE, "prompt": "The", "max_tokens": 1, "temperature": 0}
    request = urllib.request.Request(  # noqa: S310
        url, json.dumps(body).encode(), {"content-type": "application/json"}
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() - started < TIMEOUT_SECONDS:
        try:
            with opener.open(request, timeout=TIMEOUT_SECONDS) as response:
                response.read()
                return time.monotonic() - started
        except (urllib.error.URLError, OSError):
            time.sleep(0.25)
    raise ClusterError(f"no token after {TIMEOUT_SECONDS:.0f} s")


def run() -> list[BenchmarkRow]:
    """Medians of a few rounds."""
    try:
        boots = [boot() for _ in range(ROUNDS)]
        running = local.find(NAME)
        if running is None:
            raise ClusterError("the booted cluster no longer exists")
        started = time.monotonic()
        installation = install(running, report)
        installed = time.monotonic() - started
        rounds = [first_token(installation) for _ in range(ROUNDS)]
        readies, tokens = zip(*rounds, strict=True)
        return [
            BenchmarkRow("cluster boot to Ready", "s", statistics.median(boots), bar=30.0),
            BenchmarkRow("images (cached) and chart to ready", "s", installed),
            BenchmarkRow("manifest to Ready", "s", statistics.median(readies)),
            BenchmarkRow("manifest to first token", "s", statistics.median(tokens)),
        ]
    finally:
        local.down(NAME)


def main() -> None:
    """Measure on a new local cluster and write the rows."""
    argparse.ArgumentParser(prog="python -m r1_bench.cluster", description=__doc__).parse_args()
    write("cluster", run())


if __name__ == "__main__":
    main()

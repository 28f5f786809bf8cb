"""Backfill of history: an OpenMetrics file becomes blocks of a local Prometheus."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from pathlib import Path

from r1_cluster.cluster import LocalCluster
from r1_cluster.commands import run
from r1_cluster.errors import ClusterError
from r1_cluster.waiting import wait_until


def prometheus_backfill(cluster: LocalCluster, openmetrics: Path, seconds: float = 60) -> None:
    """Write the samples of file `openmetrics` into the cluster's Prometheus and wait for it.

    The file is OpenMetrics text that ends in `# EOF`; timestamps are seconds and may lie up to
    90 days back. Prometheus looks for new blocks at its start only, so it is restarted (1 s).
    Raises ClusterError when the file is not OpenMetrics, NotReady when Prometheus stays away.
    """
    if not cluster.settings.prometheus:
        raise ClusterError(f"Cluster {cluster.name} was booted without Prometheus.")
    data = cluster.settings.folder / "prometheus"
    argv = ["promtool", "tsdb", "create-blocks-from", "openmetrics", "--quiet"]
    failure = f"{openmetrics} could not be turned into Prometheus blocks"
    run([*argv, str(openmetrics), str(data)], failure, timeout=600)
    before = _started(cluster)
    request = urllib.request.Request(  # noqa: S310
        f"{cluster.prometheus_url}/-/quit", method="POST"
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    opener.open(request, timeout=10).close()
    wait_until(
        lambda: _started(cluster) not in (None, before),
        lambda: f"Prometheus of cluster {cluster.name} did not come back after the backfill",
        seconds,
    )


def _started(cluster: LocalCluster) -> str | None:
    """Return the start time of Prometheus, once it is ready."""
    pid = cluster.processes().get("prometheus")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        opener.open(f"{cluster.prometheus_url}/-/ready", timeout=2).close()
    except (urllib.error.URLError, OSError):
        time.sleep(0.1)
        return None
    return str(pid)

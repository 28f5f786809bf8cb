"""A real Prometheus that holds two weeks of a service's load, as the gateways would have told it."""

from __future__ import annotations

import math
import random
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

DAYS, STEP = 14, 15
NAME = "r1_gateway_requests_offered"
LABELS = 'inference_namespace="default",inference="production-r1",class="Q2"'


def rate(day: float, rng: random.Random) -> float:
    """Requests/s: a working day, a weaker weekend, noise, and a rush at nine."""
    hour = 24 * (day % 1)
    wave = 1 - math.cos(2 * math.pi * (hour - 4) / 24)
    weekend = 0.5 if day % 7 >= 5 else 1.0
    rush = 30.0 if 9 <= hour < 9.5 else 0.0
    return (5 + 30 * wave * weekend + rush) * rng.lognormvariate(0, 0.05)


def openmetrics(until: float) -> str:
    """One counter, scraped every 15 s, restarted once, silent for an hour once."""
    rng = random.Random(11)
    lines = [f"# HELP {NAME} Requests at the door.", f"# TYPE {NAME} counter"]
    count, start = 0.0, until - DAYS * 86_400
    for step in range(DAYS * 86_400 // STEP):
        at = start + step * STEP
        day = (at - start) / 86_400
        count = 0.0 if step == 40_000 else count + STEP * rate(day, rng)
        if not 6.5 <= day < 6.5 + 1 / 24:
            lines.append(f"{NAME}_total{{{LABELS}}} {count:.1f} {at:.0f}")
    return "\n".join([*lines, "# EOF", ""])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its address; Debian's package, filled by promtool."""
    if not (shutil.which("prometheus") and shutil.which("promtool")):
        pytest.skip("needs Debian's prometheus package (prometheus and promtool)")
    folder = tmp_path_factory.mktemp("prometheus")
    text = folder / "recorded.om"
    text.write_text(openmetrics(float(int(time.time()))))
    make = ["promtool", "tsdb", "create-blocks-from", "openmetrics", str(text)]
    subprocess.run([*make, str(folder / "data")], check=True, capture_output=True, timeout=240)
    (folder / "prometheus.yml").write_text("scrape_configs: []\n")
    port = free_port()
    command = [
        "prometheus",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--storage.tsdb.retention.time=30d",
    ]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            _wait_until_ready(f"http://127.0.0.1:{port}/-/ready")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_ready(url: str) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (OSError, urllib.error.URLError):
            time.sleep(0.2)
    raise AssertionError("Prometheus is not ready after 120 s")

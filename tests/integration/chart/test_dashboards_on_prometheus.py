"""Every query of every dashboard on a real Prometheus with the exported metrics.

A query that does not parse, joins what does not match, or asks for a label value that nobody has,
comes back with an error or empty; reading its text would not show that.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from exported_metrics import Family, exported

DASHBOARDS = Path(__file__).resolve().parents[3] / "helm" / "r1-operator" / "dashboards"
VARIABLES = {"namespace": "team", "inference": "chat", "series": "team/chat"}
VALUES = {
    "inference_namespace": ["team"],
    "inference": ["chat"],
    "series": ["team/chat"],
    "class": ["Q1"],
    "metric": ["RequestsPerSecond"],
    "level": ["0.5", "0.9"],
    "quantile": ["0.5", "0.9", "0.95"],
}
STEP = 15
HOURS = 1.2

pytestmark = pytest.mark.skipif(
    not (shutil.which("prometheus") and shutil.which("promtool")),
    reason="needs Debian's prometheus package (prometheus and promtool)",
)


def label_sets(labels: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """One label set for each relevant combination."""
    sets: list[dict[str, str]] = [{}]
    for label in labels:
        sets = [one | {label: value} for one in sets for value in VALUES.get(label, ["x"])]
    yield from sets


def samples(family: Family, ticks: int) -> Iterator[tuple[str, dict[str, str], float]]:
    """Series of a family with values per tick; counters grow."""
    for labels in label_sets(family.labels):
        if family.kind == "gauge":
            yield family.name, labels, 0.5
        elif family.kind == "counter":
            yield f"{family.name}_total", labels, float(ticks)
        else:
            for bound, share in (("0.1", 1), ("1.0", 3), ("+Inf", 4)):
                yield f"{family.name}_bucket", labels | {"le": bound}, float(share * ticks)
            yield f"{family.name}_sum", labels, float(ticks)
            yield f"{family.name}_count", labels, float(4 * ticks)


def exposition(now: int) -> str:
    """OpenMetrics text of all families over the last hour and more."""
    lines = []
    count = int(HOURS * 3600 / STEP)
    for family in exported():
        lines.append(f"# TYPE {family.name} {family.kind}")
        for tick in range(count):
            at = now - (count - tick) * STEP
            for name, labels, value in samples(family, tick):
                inner = ",".join(f'{key}="{text}"' for key, text in labels.items())
                lines.append(f"{name}{{{inner}}} {value} {at}")
    return "\n".join([*lines, "# EOF", ""])


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """The URL of a server and the time of its last sample."""
    folder, now = tmp_path_factory.mktemp("prometheus"), int(time.time())
    (folder / "all.om").write_text(exposition(now))
    blocks = ["promtool", "tsdb", "create-blocks-from", "openmetrics"]
    command = [*blocks, str(folder / "all.om"), str(folder / "data")]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    (folder / "prometheus.yml").write_text("scrape_configs: []\n")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    server = subprocess.Popen(
        [
            "prometheus",
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={address}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"http://{address}/-/ready", timeout=5):
                    break
            except OSError:
                time.sleep(0.2)
        yield f"http://{address}", now - STEP
    finally:
        server.terminate()
        server.wait(30)


def query_result(prometheus: tuple[str, int], query: str) -> list[Any]:
    """The resulting vector; raises the error of Prometheus."""
    url, at = prometheus
    inner = urllib.parse.urlencode({"query": query, "time": at})
    try:
        with urllib.request.urlopen(f"{url}/api/v1/query?{inner}", timeout=30) as reply:
            samples: list[Any] = json.load(reply)["data"]["result"]
            return samples
    except urllib.error.HTTPError as refused:
        raise AssertionError(f"{query}: {refused.read().decode()}") from refused


def with_values(query: str) -> str:
    return re.sub(r"\$(\w+)", lambda found: VARIABLES[found[1]], query)


QUERIES = [
    pytest.param(target["expr"], id=f"{path.stem}: {panel['title']} {target['refId']}")
    for path in sorted(DASHBOARDS.glob("*.json"))
    for panel in json.loads(path.read_text())["panels"]
    for target in panel.get("targets", [])
]


@pytest.mark.parametrize("query", QUERIES)
def test_every_panel_has_data(query: str, prometheus: tuple[str, int]) -> None:
    result = query_result(prometheus, with_values(query))
    assert result, f"no series for {query}"
    for one in result:
        assert math.isfinite(float(one["value"][1])), query


def test_unmatched_labels_and_invalid_queries_are_detected(prometheus: tuple[str, int]) -> None:
    assert query_result(prometheus, 'r1_forecast_coverage{level="0.42"}') == []
    with pytest.raises(AssertionError, match="parse error"):
        query_result(prometheus, "sum by (rate(r1_forecast_responses_total[5m])")

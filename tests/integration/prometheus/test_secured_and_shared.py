"""A real Prometheus with TLS, basic authentication and two clusters, one of them scraped twice."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from prometheus_clients import ask_external, write
from r1_cluster.control_plane import certificates
from r1_common.prometheus.client_config import PrometheusConfig, load_config
from r1_common.prometheus.selectors import add_matchers
from r1_forecasting.series.prometheus_history import PrometheusHistory
from r1_forecasting.series.series import Series
from r1_forecasting.unavailable import ForecastUnavailable
from r1_operator.api.scaling import ForecastSpec, MetricType
from r1_operator.kube.kinds import Key
from r1_operator.sources.forecast import build_forecast_query

pytestmark = pytest.mark.skipif(
    not shutil.which("prometheus"), reason="needs Debian's prometheus package"
)

PASSWORD = "s3cr3t-password"
BCRYPT = "$2b$04$abcdefghijklmnopqrstuu2zWLgmO7dnRH9X49UEpIMVV5e9BUBWu"
PER_SECOND = 10.0
INTERVAL = 1


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Gateway(BaseHTTPRequestHandler):
    """`PER_SECOND` requests/s of Q1 and as many of Q2."""

    def do_GET(self) -> None:
        count = PER_SECOND * time.time()
        lines = [
            "r1_gateway_requests_offered_total"
            f'{{inference_namespace="default",inference="r1",class="{name}"}} {count:.1f}\n'
            for name in ("Q1", "Q2")
        ]
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write("".join(lines).encode())

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@dataclass(frozen=True)
class Store:
    """Its URL and the files that its clients need."""

    url: str
    folder: Path
    authority: Path

    def config(self, **fields: Any) -> PrometheusConfig:
        """With the right credentials, unless `fields` name others."""
        known = {
            "caFile": str(self.authority),
            "usernameFile": str(self.folder / "user"),
            "passwordFile": str(self.folder / "password"),
            "scrapeInterval": f"{INTERVAL}s",
        }
        return load_config(self.url, json.dumps(known | fields))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    folder = tmp_path_factory.mktemp("store")
    authority = certificates.create_authority(folder, "ca")
    keys = certificates.issue(
        folder, "server", authority, "prometheus", alternative_names=("IP:127.0.0.1",)
    )
    write(folder / "user", "r1")
    write(folder / "password", PASSWORD)
    web = {
        "tls_server_config": {"cert_file": str(keys.certificate), "key_file": str(keys.key)},
        "basic_auth_users": {"r1": BCRYPT},
    }
    write(folder / "web.yml", json.dumps(web))
    with (
        ThreadingHTTPServer(("127.0.0.1", 0), Gateway) as one,
        ThreadingHTTPServer(("127.0.0.1", 0), Gateway) as two,
    ):
        gateways = [f"127.0.0.1:{server.server_port}" for server in (one, two)]
        threads = [threading.Thread(target=server.serve_forever) for server in (one, two)]
        for thread in threads:
            thread.start()
        jobs = [
            ("by-annotation", "a", gateways, {}),
            ("by-service-monitor", "a", gateways, {"pod": "r1-gateway-0", "endpoint": "admin"}),
            ("other-cluster", "b", gateways[:1], {}),
        ]
        scrape = [
            {
                "job_name": job,
                "scrape_interval": f"{INTERVAL}s",
                "static_configs": [{"targets": targets, "labels": {"cluster": cluster} | labels}],
            }
            for job, cluster, targets, labels in jobs
        ]
        write(folder / "prometheus.yml", json.dumps({"scrape_configs": scrape}))
        port = free_port()
        command = [
            "prometheus",
            f"--config.file={folder / 'prometheus.yml'}",
            f"--web.config.file={folder / 'web.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            prometheus = Store(f"https://127.0.0.1:{port}", folder, authority.certificate)
            wait_until_scraped(prometheus)
            yield prometheus
        finally:
            process.terminate()
            process.wait(30)
            for server, thread in zip((one, two), threads, strict=True):
                server.shutdown()
                thread.join()


def wait_until_scraped(store: Store) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        value = ask_external(store.config(), "count(count_over_time(up[30s]) >= 8)")
        if value == 5.0:
            return
        time.sleep(0.5)
    raise AssertionError(f"not scraped within 90 s: {value}")


def question(store: Store, **fields: Any) -> tuple[PrometheusConfig, str]:
    config = store.config(**fields)
    ask = ForecastSpec(step_seconds=1)
    request = build_forecast_query(
        Key("default", "r1"), ask, MetricType.REQUESTS_PER_SECOND, 5.0, config.rate_seconds(1)
    ).request
    return config, request.query


def test_gateway_scraped_by_two_jobs_counts_once_and_other_clusters_are_excluded(
    store: Store,
) -> None:
    config, query = question(store, matchers={"cluster": "a"})
    assert "[4s]" in query
    both_classes_of_two_gateways = 4 * PER_SECOND
    assert ask_external(config, query) == pytest.approx(both_classes_of_two_gateways, rel=0.2)
    history = PrometheusHistory(config)
    now = time.time()
    series = history.read(query, 1.0, now - 3, now)
    history._local.session.close()
    assert isinstance(series, Series)
    last = series.last()
    assert last is not None
    assert last[1] == pytest.approx(both_classes_of_two_gateways, rel=0.2)


def test_query_without_deduplication_and_matchers_counts_too_much(
    store: Store,
) -> None:
    plain = "sum(rate(r1_gateway_requests_offered_total[4s]))"
    assert ask_external(store.config(), plain) == pytest.approx(10 * PER_SECOND, rel=0.2)


def test_wrong_credentials_are_reported_with_the_status(store: Store, tmp_path: Path) -> None:
    config = store.config(passwordFile=write(tmp_path / "password", "other"))
    outcome = ask_external(config, "up")
    assert isinstance(outcome, tuple)
    assert "401 Unauthorized" in outcome[1]
    history = PrometheusHistory(config)
    refused = history.read("up", 1.0, time.time() - 3, time.time())
    history._local.session.close()
    assert isinstance(refused, ForecastUnavailable)
    assert "401 Unauthorized" in refused.message


def test_plain_http_to_a_tls_server_is_reported(store: Store) -> None:
    config = load_config(store.url.replace("https:", "http:"))
    outcome = ask_external(config, "up")
    assert isinstance(outcome, tuple)
    assert "400 Bad Request: Client sent an HTTP request to an HTTPS server" in outcome[1]


@pytest.mark.parametrize(
    "query",
    [
        "sum by (job) (rate(up[5m] offset 1m)) / on(job) group_left(x) count(up) by (job)",
        'label_replace(up{job=~"a|b",}, "x", "$1", "job", "(.*)") or {__name__="up"} # end',
        "max_over_time((up > bool 0)[5m:1m]) unless ignoring(job) -up + NaN * Inf",
        "histogram_quantile(0.9, sum(rate(x_bucket{}[5m] @ end())) without (pod))",
        "topk by (job) (3, up) > 1e-3 and vector(0x1F) >= bool .5",
    ],
)
def test_prometheus_parses_queries_with_added_matchers(store: Store, query: str) -> None:
    narrowed = add_matchers(query, [("cluster", 'a"\\\n')])
    context = ssl.create_default_context(cafile=str(store.authority))
    passwords = urllib.request.HTTPPasswordMgrWithPriorAuth()
    passwords.add_password(None, store.url, "r1", PASSWORD, is_authenticated=True)
    opener = urllib.request.build_opener(
        urllib.request.HTTPSHandler(context=context),
        urllib.request.HTTPBasicAuthHandler(passwords),
    )
    encoded = urllib.parse.quote(narrowed)
    try:
        with opener.open(f"{store.url}/api/v1/format_query?query={encoded}", timeout=10) as reply:
            assert json.load(reply)["status"] == "success"
    except urllib.error.HTTPError as refused:
        raise AssertionError(f"{narrowed}: {refused.read().decode()}") from None


@pytest.mark.parametrize("right", [True, False])
def test_processes_log_no_secret(store: Store, tmp_path: Path, right: bool) -> None:
    """`r1 backtest` reports too little history with the right password, and 401 with a wrong one."""
    password = PASSWORD if right else "wr0ng-password"
    client = {
        "caFile": str(store.authority),
        "usernameFile": str(store.folder / "user"),
        "passwordFile": write(tmp_path / "password", password),
    }
    file = write(tmp_path / "client.json", json.dumps(client))
    query = "sum(rate(r1_gateway_requests_offered_total[1m]))"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "r1_evaluation.backtest", "backtest", "--query", query, "--capacity", "8"),
            *("--prometheus", store.url, "--prometheus-client", file, "--json"),
        ],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    output = done.stdout + done.stderr
    assert done.returncode == (3 if right else 1), output
    assert right or "401 Unauthorized" in output
    assert password not in output

"""Processes with credentials in the URL, or with an invalid configuration."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from typing import Any

import pytest

from scripted_prometheus import Reply, Script, matrix

COMMANDS = {
    "operator": ("-m", "r1_operator", "run"),
    "forecaster": ("-m", "r1_forecasting"),
    "backtest": ("-m", "r1_evaluation.backtest", "backtest", "--query", "up", "--capacity", "1"),
}
SETTINGS = {
    "operator": ("R1_PROMETHEUS_URL", "R1_PROMETHEUS_CLIENT"),
    "forecaster": ("R1_FORECASTER_PROMETHEUS_URL", "R1_FORECASTER_PROMETHEUS_CLIENT"),
    "backtest": ("", "R1_PROMETHEUS_CLIENT"),
}


def ended(part: str, url: str, client: str) -> subprocess.CompletedProcess[str]:
    url_name, client_name = SETTINGS[part]
    command = [sys.executable, *COMMANDS[part]]
    command += [] if url_name else ["--prometheus", url]
    settings = {client_name: client} | ({url_name: url} if url_name else {})
    return subprocess.run(
        command, env=os.environ | settings, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize("part", COMMANDS)
def test_process_with_credentials_in_the_url_exits_without_printing_them(part: str) -> None:
    done = ended(part, "http://user:hush@prometheus:9090", "")
    assert done.returncode == 2
    assert "prometheus.auth" in done.stderr
    assert "hush" not in done.stdout + done.stderr


@pytest.mark.parametrize("part", COMMANDS)
def test_process_with_an_invalid_matcher_exits_and_names_it(part: str) -> None:
    done = ended(part, "http://prometheus:9090", '{"matchers": {"a-b": "c"}}')
    assert done.returncode == 2
    assert "matchers: 'a-b'" in done.stderr
    assert "Traceback" not in done.stderr


def forecast(url: str) -> dict[str, Any]:
    body = {
        "series": "default/r1",
        "query": "sum(demand)",
        "stepSeconds": 60,
        "seasonSeconds": 86_400,
        "historySeconds": 864_000,
        "leadSeconds": 120,
    }
    request = urllib.request.Request(
        f"{url}/v1/forecast", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as reply:
        answer: dict[str, Any] = json.load(reply)
        return answer


def reason(url: str, wanted: str) -> str:
    """Wait for a reason of the forecaster; return its message."""
    for _ in range(600):
        try:
            answer = forecast(url)
            if answer["reason"] == wanted:
                return str(answer["message"])
        except OSError:
            answer = {}
        time.sleep(0.1)
    raise AssertionError(f"the last answer is {answer}")


def test_forecaster_reports_partial_data_and_the_status_of_a_rejection(server: Script) -> None:
    server.reply = Reply(200, matrix(3.0, 3.0, warnings=["store-1: connection refused"]))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, *COMMANDS["forecaster"], "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(
        [*command, "--prometheus-url", server.url, "--models", ""], stderr=subprocess.DEVNULL
    )
    try:
        url = f"http://127.0.0.1:{port}"
        assert "store-1: connection refused" in reason(url, "PartialData")
        server.reply = Reply(401, b"", "")
        assert "401 Unauthorized" in reason(url, "PrometheusUnreachable")
    finally:
        process.terminate()
        process.wait(30)

"""Real processes that are given credentials in the URL, or a configuration that cannot be used."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

COMMANDS = {
    "operator": ("-m", "r1_operator", "run"),
    "forecaster": ("-m", "r1_forecasting"),
    "backtest": ("-m", "r1_backtest", "backtest", "--query", "up", "--capacity", "1"),
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
def test_a_url_with_credentials_ends_the_start_and_is_not_printed(part: str) -> None:
    done = ended(part, "http://user:hush@prometheus:9090", "")
    assert done.returncode == 2
    assert "prometheus.auth" in done.stderr
    assert "hush" not in done.stdout + done.stderr


@pytest.mark.parametrize("part", COMMANDS)
def test_a_matcher_that_is_no_label_ends_the_start_and_is_named(part: str) -> None:
    done = ended(part, "http://prometheus:9090", '{"matchers": {"a-b": "c"}}')
    assert done.returncode == 2
    assert "matchers: 'a-b'" in done.stderr
    assert "Traceback" not in done.stderr

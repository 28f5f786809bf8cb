"""The published OpenAPI document and the server agree, by the requests that schemathesis makes of it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import openapi_checks
import r1_runtime
from runtime_process import Server, started, until_ready

KEY = "secret-key"
MODEL = Path(r1_runtime.__path__[0]) / "models_bundled" / "demo"
EXAMPLES = 12  # random requests of each endpoint, after one for each field and border
SECONDS = 800  # on a busy machine


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("server") / "log"
    options = ("--api-key", KEY, "--max-model-len", "128", "--tool-call-parser", "hermes")
    with started(MODEL, log, *options) as running:
        asyncio.run(until_ready(running))
        yield running
        running.terminate()
        assert running.process.wait(60) == 0, log.read_text()
        assert "Traceback" not in log.read_text()
        assert "ERROR" not in log.read_text()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_schemathesis_finds_no_difference_between_document_and_server(
    server: Server, tmp_path: Path
) -> None:
    """Of fields that are valid alone, some are refused together: a check of ours replaces that one."""
    support = Path(openapi_checks.__file__).parent
    command = [str(Path(sys.executable).parent / "schemathesis"), "run"]
    command += [f"{server.url}/openapi.json", "--header", f"Authorization: Bearer {KEY}"]
    command += ["--phases", "coverage,fuzzing", "--max-examples", str(EXAMPLES), "--seed", "1"]
    command += ["--exclude-checks", "positive_data_acceptance", "--request-timeout", "60"]
    command += ["--no-color", "--continue-on-failure", "--no-shrink"]
    hooks = {"SCHEMATHESIS_HOOKS": "openapi_checks", "PYTHONPATH": str(support)}
    report = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, **hooks},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert report.returncode == 0, report.stdout[-12000:] + report.stderr[-2000:]

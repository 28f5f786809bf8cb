"""The bundled model, served to clients that other projects wrote."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

import r1_runtime
from client_programs import PYTHON
from runtime_process import Server, started, until_ready

MODEL = Path(r1_runtime.__path__[0]) / "models_bundled" / "demo"


@pytest.fixture(scope="session")
def model() -> Path:
    """The served checkpoint, which is also the clients' tokenizer."""
    if not PYTHON.exists():
        pytest.skip("the clients are not installed: make test-clients")
    return MODEL


@pytest.fixture(scope="session")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("server") / "log"
    with started(model, log, "--max-num-seqs", "4") as running:
        asyncio.run(until_ready(running))
        yield running
        running.terminate()
        assert running.process.wait(60) == 0, log.read_text()
        assert "Traceback" not in log.read_text()

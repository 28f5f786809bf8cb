"""The preStop script of foreign engines really waits for their running requests."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from r1_operator.plan.children.engines.draining import SCRIPT


class Engine(HTTPServer):
    """Serves a gauge that goes down by one with each look."""

    running = 2
    looks = 0


class Metrics(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        engine = self.server
        assert isinstance(engine, Engine)
        engine.looks += 1
        text = (
            "# HELP vllm:num_requests_running Requests\n"
            "vllm:num_requests_running_total 99.0\n"
            f'vllm:num_requests_running{{model="r1"}} {float(engine.running)}\n'
        )
        engine.running = max(0, engine.running - 1)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine(("127.0.0.1", 0), Metrics) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def drain(port: int, limit: str) -> None:
    url = f"http://127.0.0.1:{port}/metrics"
    argv = [sys.executable, "-c", SCRIPT, url, "vllm:num_requests_running", "0", limit]
    subprocess.run(argv, check=True, timeout=60)


def test_it_waits_until_nothing_runs(engine: Engine) -> None:
    drain(engine.server_port, "50")
    assert engine.looks == 3


def test_it_gives_up_after_the_limit(engine: Engine) -> None:
    engine.running = 10**9
    drain(engine.server_port, "1.2")
    assert 1 <= engine.looks <= 4


def test_an_engine_that_is_gone_has_drained() -> None:
    with Engine(("127.0.0.1", 0), Metrics) as server:
        port = server.server_port
    drain(port, "50")

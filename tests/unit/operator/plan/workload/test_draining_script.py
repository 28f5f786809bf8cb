"""The preStop script of vLLM and SGLang pods waits for the requests of a real server."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

import network_variants
from r1_operator.plan.workload.engines.draining import SCRIPT

RUNNING, WAITING = "vllm:num_requests_running", "vllm:num_requests_waiting"
LIMIT = "50"
HANG = 60


def gauges(running: float, waiting: float = 0) -> bytes:
    return (
        f"# HELP {RUNNING} Requests\n"
        f"{RUNNING}_total 99.0\n"
        f'{RUNNING}{{engine="0",model_name="r1"}} {float(running)}\n'
        f'{WAITING}{{engine="0",model_name="r1"}} {float(waiting)}\n'
    ).encode()


IDLE = gauges(0)
Look = bytes | int | Callable[[BaseHTTPRequestHandler], None]
"""What one request for /metrics gets: a text, an HTTP status, or a function's own answer."""


class Engine(ThreadingHTTPServer):
    """Answers each GET /metrics from a script; the last entry is repeated."""

    daemon_threads = True
    script: list[Look]
    looks = 0


class Metrics(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        engine = self.server
        assert isinstance(engine, Engine)
        assert self.path == "/metrics"
        look = engine.script[min(engine.looks, len(engine.script) - 1)]
        engine.looks += 1
        if callable(look):
            look(self)
            return
        self.send_response(look if isinstance(look, int) else 200)
        self.end_headers()
        self.wfile.write(look if isinstance(look, bytes) else b"not now")

    def log_message(self, *_: object) -> None:
        pass


class EngineV6(Engine):
    address_family = socket.AF_INET6


@pytest.fixture
def engine() -> Iterator[Callable[..., Engine]]:
    """`engine(look, look, ...)` serves on loopback."""
    running: list[tuple[Engine, threading.Thread]] = []

    def start(*script: Look, kind: type[Engine] = Engine, port: int = 0) -> Engine:
        server = kind(("::1" if kind is EngineV6 else "127.0.0.1", port), Metrics)
        server.script = list(script)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        running.append((server, thread))
        return server

    yield start
    for server, thread in running:
        server.shutdown()
        server.server_close()
        thread.join()


def drain(port: int, limit: str = LIMIT, **environment: str) -> float:
    """Run the script as the kubelet does; returns its seconds."""
    argv = [sys.executable, "-c", SCRIPT, str(port), "0", limit, RUNNING, WAITING]
    began = time.monotonic()
    done = subprocess.run(
        argv, timeout=HANG, check=True, env=os.environ | environment, capture_output=True
    )
    assert done.stderr == b""
    return time.monotonic() - began


def test_the_script_waits_until_two_looks_in_a_row_find_no_request(
    engine: Callable[..., Engine],
) -> None:
    server = engine(gauges(2), IDLE, gauges(1), IDLE)
    drain(server.server_port)
    assert server.looks == 5


def test_waiting_requests_are_waited_for(engine: Callable[..., Engine]) -> None:
    server = engine(gauges(0, 3), gauges(0, 1), IDLE)
    drain(server.server_port)
    assert server.looks == 4


def test_every_line_of_a_gauge_counts(engine: Callable[..., Engine]) -> None:
    second = RUNNING.encode() + b'{engine="1",model_name="a } b 0"} 1.0 1700000000000\n'
    server = engine(IDLE + second, second + IDLE, IDLE)
    drain(server.server_port)
    assert server.looks == 4


@pytest.mark.parametrize(
    "unknown",
    [
        500,
        404,
        b"",
        b"<html>",
        RUNNING.encode() + b" many\n",
        RUNNING.encode() + b" NaN\n",
        WAITING.encode() + b" 0.0\n",
        b"\xff\xfe",
        lambda handler: handler.wfile.write(b"nonsense\r\n"),
        lambda handler: handler.connection.close(),
        lambda handler: time.sleep(7),
    ],
)
def test_an_answer_that_cannot_be_read_is_not_idle(
    unknown: Any, engine: Callable[..., Engine]
) -> None:
    server = engine(unknown, IDLE)
    drain(server.server_port)
    assert server.looks == 3


def test_an_answer_that_dribbles_does_not_hold_the_script_beyond_its_limit(
    engine: Callable[..., Engine],
) -> None:
    def dribble(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        for _ in range(HANG):
            handler.wfile.write(b"#")
            time.sleep(0.5)

    server = engine(dribble)
    assert drain(server.server_port, "2") < HANG / 2


def test_the_script_ends_at_its_limit_while_requests_run(engine: Callable[..., Engine]) -> None:
    server = engine(gauges(10**9))
    drain(server.server_port, "1.2")
    assert 1 <= server.looks <= 4


def test_the_script_does_not_ask_a_proxy(engine: Callable[..., Engine]) -> None:
    proxy, server = engine(IDLE), engine(gauges(1), IDLE)
    address = f"http://127.0.0.1:{proxy.server_port}"
    drain(server.server_port, http_proxy=address, HTTP_PROXY=address, ALL_PROXY=address)
    assert (proxy.looks, server.looks) == (0, 3)


def test_the_script_asks_the_address_of_its_pod(engine: Callable[..., Engine]) -> None:
    server = engine(gauges(1), IDLE)
    drain(server.server_port, POD_IP="127.0.0.1")
    assert server.looks == 3


@pytest.mark.skipif(
    network_variants.unavailable(network_variants.PLAIN) is not None, reason="no IPv6"
)
@pytest.mark.parametrize("pod_ip", ["::1", ""])
def test_the_script_finds_an_engine_on_ipv6(pod_ip: str, engine: Callable[..., Engine]) -> None:
    server = engine(gauges(1), IDLE, kind=EngineV6)
    drain(server.server_port, POD_IP=pod_ip)
    assert server.looks == 3


def test_an_engine_that_refuses_connections_for_a_moment_is_waited_for(
    engine: Callable[..., Engine],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    later: list[Engine] = []
    timer = threading.Timer(2.0, lambda: later.append(engine(gauges(1), IDLE, port=port)))
    timer.start()
    drain(port)
    timer.join()
    assert later[0].looks == 3


def test_where_nothing_listens_no_request_is_left() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    assert drain(port) < float(LIMIT) / 2

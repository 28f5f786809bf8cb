"""A runtime server process, for tests over TCP."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

START_SECONDS = 240  # importing torch on a busy machine


@dataclass(slots=True)
class Server:
    """A running server and its address."""

    process: subprocess.Popen[str]
    url: str

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def started(
    model: Path,
    log: Path,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    program: tuple[str, ...] = ("-m", "r1_runtime.serve"),
) -> Iterator[Server]:
    """Run a server process until the block ends."""
    port = free_port()
    command = [sys.executable, *program, "--model-path", str(model)]
    command += ["--served-model-name", "tiny", "--served-model-name", "alias"]
    command += ["--host", "127.0.0.1", "--port", str(port), *arguments]
    if "--threads" not in arguments:
        command += ["--threads", "1"]
    with log.open("w") as out:
        process = subprocess.Popen(
            command, stderr=out, text=True, env={**os.environ, **(environment or {})}
        )
    try:
        yield Server(process, f"http://127.0.0.1:{port}")
    finally:
        process.kill()
        process.wait()


async def until_ready(server: Server) -> None:
    deadline = time.monotonic() + START_SECONDS
    async with aiohttp.ClientSession() as http:
        while time.monotonic() < deadline:
            assert server.process.poll() is None, "the server has exited"
            try:
                async with http.get(server.url + "/ready") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.1)
    raise AssertionError("the server did not become ready")

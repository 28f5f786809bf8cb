"""A load ramp that recurs each minute, a fake Prometheus with its history, and a forecaster.

The fake Prometheus computes `demand(t)` for any time up to now, so every test starts with a long
history. The published endpoints of the forecaster are under test.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

SEASON, STEP, LEAD = 60.0, 1.0, 20.0
QUIET, BUSY = 2.0, 20.0


def shape(query: str, season: float, step: float, lead: float) -> dict[str, Any]:
    """Fields of a forecast, for `POST /v1/forecast` and for a published forecast."""
    return {
        "query": query,
        "stepSeconds": step,
        "seasonSeconds": season,
        "historySeconds": 8 * season,
        "leadSeconds": lead,
    }


SHAPE = shape("demand", SEASON, STEP, LEAD)


def answer_of(url: str, body: dict[str, Any]) -> dict[str, Any]:
    """Response of the forecaster at `url` to `POST /v1/forecast`."""
    request = urllib.request.Request(
        f"{url}/v1/forecast",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as reply:
        answer: dict[str, Any] = json.load(reply)
        return answer


def demand(at: float, season: float = SEASON) -> float:
    """High from 0.5 to 0.8 of each season."""
    return BUSY if 0.5 <= (at % season) / season < 0.8 else QUIET


@dataclass
class Risings:
    """Times at which replica counts rose from one to the need of the busy time.

    A count is noted after its response, so a slow machine makes a rise appear later, never earlier.
    """

    busy: int
    season: float = SEASON
    lead: float = LEAD
    _times: dict[str, list[float]] = field(default_factory=dict)
    _quiet: set[str] = field(default_factory=set)

    def note(self, name: str, count: int) -> None:
        """Record an observed count."""
        times = self._times.setdefault(name, [])
        if count == 1:
            self._quiet.add(name)
        elif count >= self.busy and name in self._quiet:
            self._quiet.discard(name)
            times.append(time.time())

    def has_risen(self, name: str) -> bool:
        """Whether the count has risen."""
        return bool(self._times.get(name))

    def early(self, name: str) -> bool:
        """Whether the count rose within the lead time before the busy time."""
        busy_from = self.season / 2
        phases = (at % self.season for at in self._times.get(name, ()))
        return any(busy_from - self.lead <= phase < busy_from for phase in phases)

    def summary(self) -> str:
        """The rise times, for failure messages."""
        phases = {
            name: [round(at % self.season, 1) for at in times]
            for name, times in self._times.items()
        }
        return f"load starts at {self.season / 2:.0f} s of {self.season:.0f} s; counts rose at {phases}"


class _Prometheus(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        if url.path != "/api/v1/query_range":
            self.send_error(404)
            return
        start, end, step = (float(query[name]) for name in ("start", "end", "step"))
        count = math.floor((min(end, time.time()) - start) / step + 1e-6) + 1
        if query["query"] != SHAPE["query"]:
            count = 0  # no such series
        values = [[start + i * step, str(demand(start + i * step))] for i in range(count)]
        result = [{"metric": {}, "values": values}] if values else []
        body = {"status": "success", "data": {"resultType": "matrix", "result": result}}
        text = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *_: Any) -> None:
        """Log nothing."""


@contextmanager
def prometheus() -> Iterator[str]:
    """Run the fake Prometheus; yields its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Prometheus)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def forecaster(
    arguments: list[str], log: Path, environment: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a forecaster process without trained models until the block ends."""
    command = [sys.executable, "-m", "r1_forecasting", "--host", "127.0.0.1", "--models", ""]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, *arguments],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | (environment or {}),
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(check: Callable[[], Any], seconds: float, what: str) -> Any:
    """Return the first truthy result of `check`; fail with `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        result = check()
        if result:
            return result
        time.sleep(0.25)
    raise AssertionError(f"not within {seconds:g} s: {what}")


def is_ready(port: int) -> bool:
    """Whether the forecaster's readiness probe succeeds."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False

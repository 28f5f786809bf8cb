"""CPU of the gateway per request and per chunk beside HAProxy, and the effect of priority classes.

Both proxies serve the same clients from the same pod and are measured in turn, several rounds in
one run.  The figure is CPU time of the proxy (``/proc/PID/task/*/schedstat``) divided by the
requests or chunks: it is comparable on a busy machine, where wall-clock figures are not.  HAProxy
needs ``option http-no-delay``; without it, HAProxy delays the chunks of a stream by 200 ms.

The overload scenario: a pod of 20 slots of 50 ms (400 requests/s); Q1 at 100/s, Q2 at 200/s, Q3
from 300 closed-loop clients.  With classes, the latency of Q1 should hardly rise.  For "first come,
first served", all requests have one class.  The peer is HAProxy's ``set-priority-class``.

    python -m r1_bench.gateway [--quick]        rows in out/bench-gateway.json, under 3 minutes
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from r1_bench.gateway.admission_core import request_us
from r1_bench.gateway.load import request_bytes
from r1_bench.rows import BenchmarkRow, write

SLOTS = 20
SERVICE_MS = 50.0
PROXY_CORE = 0
OTHER_CORE = 1


@dataclass
class Figures:
    """Per-round measurements of one proxy."""

    request_us: list[float] = field(default_factory=list)
    requests_per_second: list[float] = field(default_factory=list)
    chunk_us: list[float] = field(default_factory=list)
    first_chunk_p99_ms: list[float] = field(default_factory=list)
    rss_mb: float = 0.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def cpu_seconds(pid: int) -> float:
    """CPU time of a process, all its threads, in seconds."""
    total = 0
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):
            total += int(path.read_text().split()[0])
    return total / 1e9


def rss_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    match = re.search(r"VmRSS:\s+(\d+) kB", status)
    return int(match[1]) / 1024 if match else 0.0


def pinned(core: int | None, command: list[str]) -> list[str]:
    """Pin the command to one core if `core` is set and the machine has two cores and taskset."""
    if core is not None and shutil.which("taskset") and (os.cpu_count() or 1) > 1:
        return ["taskset", "-c", str(core), *command]
    return command


@contextlib.contextmanager
def process(command: list[str], core: int | None, port: int, log: Path) -> Iterator[int]:
    """Start a server that listens on ``port``; yields its pid.  Stopped by SIGTERM, then SIGKILL."""
    with log.open("ab") as sink:
        child = subprocess.Popen(pinned(core, command), stdout=sink, stderr=sink)
    try:
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if child.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[:4]} did not start:\n{log.read_text()[-2000:]}")
            time.sleep(0.05)
        yield child.pid
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(5)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def load(*arguments: str) -> dict[str, dict[str, float]]:
    """Run a client of ``gateway_load`` and read its JSON."""
    command = [sys.executable, "-m", "r1_bench.gateway.load", *arguments]
    done = subprocess.run(
        pinned(OTHER_CORE, command), capture_output=True, text=True, check=False, timeout=120
    )
    if done.returncode:
        raise RuntimeError(f"the clients failed:\n{done.stderr[-2000:]}")
    result: dict[str, dict[str, float]] = json.loads(done.stdout)
    return result


def gateway_command(folder: Path, pod: int, port: int, seats: int) -> list[str]:
    config = folder / f"routes-{port}.json"
    classes = {
        name: {"maxQueueLength": 100_000, "maxQueueSeconds": 600} for name in ("Q1", "Q2", "Q3")
    }
    route = {
        "namespace": "default",
        "name": "m",
        "seatsPerReplica": seats,
        "classes": classes,
        "endpoints": [f"127.0.0.1:{pod}"],
    }
    config.write_text(json.dumps({"routes": [route]}))
    return [
        sys.executable, "-m", "r1_gateway", "--config", str(config), "--host=127.0.0.1",
        f"--port={port}", "--admin-host=127.0.0.1", "--admin-port=0", "--linger-seconds=0",
        "--drain-seconds=0",
    ]  # fmt: skip


def haproxy_command(folder: Path, pod: int, port: int, seats: int) -> list[str]:
    config = folder / f"haproxy-{port}.cfg"
    config.write_text(
        f"""
global
  nbthread 1
  maxconn 4000
defaults
  mode http
  option http-no-delay
  option abortonclose
  option http-keep-alive
  http-reuse always
  timeout connect 5s
  timeout client 120s
  timeout server 120s
  timeout queue 120s
frontend clients
  bind 127.0.0.1:{port}
  http-request set-priority-class int(1) if {{ req.hdr(x-r1-priority) Q1 }}
  http-request set-priority-class int(2) if {{ req.hdr(x-r1-priority) Q2 }}
  http-request set-priority-class int(3) if {{ req.hdr(x-r1-priority) Q3 }}
  default_backend pods
backend pods
  server pod 127.0.0.1:{pod} maxconn {seats}
"""
    )
    return ["haproxy", "-db", "-f", str(config)]


PROXIES = {"gateway": gateway_command, "haproxy": haproxy_command}


def wrk_script(folder: Path) -> Path:
    body = request_bytes(stream=False).partition(b"\r\n\r\n")[2].decode()
    path = folder / "post.lua"
    path.write_text(
        f"wrk.method = 'POST'\nwrk.body = '{body}'\n"
        "wrk.headers['content-type'] = 'application/json'\nwrk.headers['x-r1-priority'] = 'Q2'\n"
    )
    return path


def measure_requests(port: int, pid: int, script: Path, seconds: int) -> tuple[float, float]:
    """CPU microseconds per request, and requests per second, at 64 connections."""
    before = cpu_seconds(pid)
    command = ["wrk", "-t1", "-c64", f"-d{seconds}s", "-s", str(script)]
    done = subprocess.run(
        pinned(OTHER_CORE, [*command, f"http://127.0.0.1:{port}/v1/chat/completions"]),
        capture_output=True,
        text=True,
        check=True,
        timeout=seconds + 30,
    )
    spent = cpu_seconds(pid) - before
    if "Non-2xx" in done.stdout:
        raise RuntimeError(f"the proxy rejected requests:\n{done.stdout}")
    match = re.search(r"(\d+) requests in ([\d.]+)s", done.stdout)
    if match is None or int(match[1]) == 0:
        raise RuntimeError(f"wrk reports no request:\n{done.stdout}{done.stderr}")
    return spent / int(match[1]) * 1e6, int(match[1]) / float(match[2])


def measure_streams(port: int, pid: int, seconds: float) -> tuple[float, float]:
    """CPU microseconds per chunk, and p99 of the time to the first chunk in ms, at 100 streams."""
    before = cpu_seconds(pid)
    result = load("streams", f"--port={port}", f"--seconds={seconds}", "--count=100")
    spent = cpu_seconds(pid) - before
    chunks, p99 = float(str(result["chunks"])), float(str(result["p99"]))
    return spent / chunks * 1e6, p99 * 1000


def measure_costs(folder: Path, rounds: int, seconds: int) -> dict[str, Figures]:
    """Rounds of both proxies in turn."""
    figures = {name: Figures() for name in PROXIES}
    script = wrk_script(folder)
    with contextlib.ExitStack() as stack:
        pod = free_port()
        command = [sys.executable, "-m", "r1_bench.gateway.load", "pod", f"--port={pod}"]
        stack.enter_context(process(command, OTHER_CORE, pod, folder / "pod.log"))
        running = {}
        for name, build in PROXIES.items():
            port = free_port()
            pid = stack.enter_context(
                process(build(folder, pod, port, 200), PROXY_CORE, port, folder / f"{name}.log")
            )
            running[name] = (port, pid)
            measure_requests(port, pid, script, 1)  # warm
        for number in range(rounds):
            for name, (port, pid) in running.items():
                mine = figures[name]
                each, rate = measure_requests(port, pid, script, seconds)
                chunk, first = measure_streams(port, pid, seconds)
                mine.request_us.append(each)
                mine.requests_per_second.append(rate)
                mine.chunk_us.append(chunk)
                mine.first_chunk_p99_ms.append(first)
                mine.rss_mb = rss_mb(pid)
                print(
                    f"round {number + 1} {name}: {each:.1f} us/request, {rate:.0f}/s, "
                    f"{chunk:.1f} us/chunk, first chunk p99 {first:.0f} ms",
                    file=sys.stderr,
                )
    return figures


def measure_overload(
    folder: Path, proxy: str, seconds: float, *, fifo: bool
) -> dict[str, dict[str, float]]:
    """Latencies and rates per class in the overload scenario."""
    pod, port = free_port(), free_port()
    command = [
        sys.executable, "-m", "r1_bench.gateway.load", "pod", f"--port={pod}",
        f"--slots={SLOTS}", f"--service-ms={SERVICE_MS}",
    ]  # fmt: skip
    with (
        process(command, OTHER_CORE, pod, folder / "pod.log"),
        process(
            PROXIES[proxy](folder, pod, port, SLOTS), PROXY_CORE, port, folder / "overload.log"
        ),
    ):
        flags = ["--fifo"] if fifo else []
        result = load("overload", f"--port={port}", f"--seconds={seconds}", *flags)
    name = f"{proxy}, {'first come first served' if fifo else 'classes'}"
    shown = ", ".join(
        f"{k} p50 {v['p50'] * 1000:.0f} p99 {v['p99'] * 1000:.0f} ms {v['perSecond']:.0f}/s"
        if v["p99"] is not None
        else f"{k} none served"
        for k, v in result.items()
    )
    if result["Q1"]["p99"] is None:
        raise RuntimeError("no Q1 request was served: the machine is too busy for this scenario")
    print(f"overload, {name}: {shown}", file=sys.stderr)
    return result


def build_rows(
    figures: dict[str, Figures],
    classes: dict[str, dict[str, float]],
    fifo: dict[str, dict[str, float]],
    peer: dict[str, dict[str, float]],
) -> list[BenchmarkRow]:
    """Medians over the rounds, with the project's own bars."""
    ours, theirs = figures["gateway"], figures["haproxy"]
    middle = statistics.median
    q1, q1_fifo, q1_peer = (result["Q1"]["p99"] * 1000 for result in (classes, fifo, peer))
    return [
        BenchmarkRow(
            "CPU per request",
            "us",
            middle(ours.request_us),
            "haproxy",
            middle(theirs.request_us),
            2.5,
        ),
        BenchmarkRow(
            "CPU per chunk", "us", middle(ours.chunk_us), "haproxy", middle(theirs.chunk_us), 1.4
        ),
        BenchmarkRow(
            "requests per second, one core",
            "1/s",
            middle(ours.requests_per_second),
            "haproxy",
            middle(theirs.requests_per_second),
        ),
        BenchmarkRow(
            "first chunk p99, 100 streams",
            "ms",
            middle(ours.first_chunk_p99_ms),
            "haproxy",
            middle(theirs.first_chunk_p99_ms),
            2.0,
        ),
        BenchmarkRow("memory", "MB", ours.rss_mb, "haproxy", theirs.rss_mb),
        BenchmarkRow("overload: Q1 p99", "ms", q1, "haproxy priority classes", q1_peer, 1.25),
        BenchmarkRow(
            "overload: Q1 p99 relative to the service time", "ratio", q1 / SERVICE_MS, bar=1.8
        ),
        BenchmarkRow(
            "overload: Q1 p99 first come first served, relative to classes",
            "ratio",
            q1_fifo / q1,
            bar=30.0,
            higher_is_better=True,
        ),
        BenchmarkRow(
            "overload: goodput of all classes",
            "1/s",
            sum(result["perSecond"] for result in classes.values()),
            "haproxy priority classes",
            sum(result["perSecond"] for result in peer.values()),
            bar=0.98,
            higher_is_better=True,
        ),
    ]


def admission_rows() -> list[BenchmarkRow]:
    """CPU of the admission core, small and large; flat means the same for both."""
    small = request_us(10, 100, 10, fair=True)
    large = request_us(500, 10_000, 100, fair=True)
    fifo = request_us(500, 10_000, 100, fair=False)
    return [
        BenchmarkRow("admission core, 10 pods, 100 queued, 10 tenants", "us", small, bar=5.0),
        BenchmarkRow("admission core, 500 pods, 10,000 queued, 100 tenants", "us", large, bar=5.0),
        BenchmarkRow("the same first come, first served", "us", fifo, bar=5.0),
        BenchmarkRow("admission core, large relative to small", "ratio", large / small, bar=1.5),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m r1_bench.gateway",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="one short round: a smoke test")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    for program in ("haproxy", "wrk"):
        if shutil.which(program) is None:
            print(f"{program} is not installed: apt-get install {program}", file=sys.stderr)
            return 2
    rounds, seconds, long = (1, 2, 8.0) if options.quick else (options.rounds, 5, 15.0)
    with tempfile.TemporaryDirectory(prefix="r1-bench-gateway-") as name:
        folder = Path(name)
        figures = measure_costs(folder, rounds, seconds)
        classes = measure_overload(folder, "gateway", long, fifo=False)
        peer = measure_overload(folder, "haproxy", long, fifo=False)
        fifo = measure_overload(folder, "gateway", long, fifo=True)
    write("gateway", [*build_rows(figures, classes, fifo, peer), *admission_rows()])
    return 0

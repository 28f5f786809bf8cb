"""A step on two threads beside a process that burns one core, against the same step without it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import median

from r1_bench.rows import BenchmarkRow
from r1_bench.runtime.load import GREEDY, Client
from r1_bench.runtime.measurements.http import PEER
from r1_bench.runtime.servers import Server, llama_cpp, ours, running
from r1_cluster.control_plane.controlplane import free_ports

_TOKENS = 192
_SETTLING = 64  # tokens in which a server may notice its neighbour


@contextmanager
def _burning(cpu: int) -> Iterator[None]:
    """A process that computes without pause on one processor."""
    command = [sys.executable, "-c", "while True: pass"]
    process = subprocess.Popen(command)
    os.sched_setaffinity(process.pid, {cpu})
    try:
        time.sleep(0.2)
        yield
    finally:
        process.kill()
        process.wait()


def _token_seconds(server: Server, client: Client) -> float:
    """Median time between two tokens of one stream."""
    load = client.run(server, 1, 16, _SETTLING + _TOKENS, GREEDY)
    events = load.streams[0].events[_SETTLING:]
    return median(after - before for before, after in pairwise(events))


def neighbour_row(label: str, path: Path, client: Client, rounds: int) -> BenchmarkRow:
    """Median of the ratios of both servers, which run one after the other in each round.

    Ours chooses its thread count itself; llama.cpp has two threads.
    """
    cpus = set(sorted(os.sched_getaffinity(0))[:2])
    first, second = free_ports(2)
    mine = [each for each in ours(str(path), 2, first) if each not in ("--threads", "2")]
    with (
        running("ours", mine, first, cpus) as one,
        running(PEER, llama_cpp(str(path), 2, second), second, cpus) as other,
    ):
        ratios: tuple[list[float], list[float]] = ([], [])
        for _ in range(rounds):
            for server, found in zip((one, other), ratios, strict=True):
                quiet = _token_seconds(server, client)
                with _burning(max(cpus)):
                    found.append(_token_seconds(server, client) / quiet)
    return BenchmarkRow(
        f"{label}, 2 threads, 1 stream: token time beside a busy core over quiet",
        "x",
        median(ratios[0]),
        bar=2.2,
    )

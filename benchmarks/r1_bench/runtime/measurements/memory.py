"""Resident memory of the server: of a 1 B model, and over 2,000 requests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from r1_bench.rows import BenchmarkRow
from r1_bench.runtime.load import SAMPLED, Client
from r1_bench.runtime.servers import ours, running
from r1_cluster.control_plane.controlplane import free_ports
from r1_runtime.backends.cpu.backend import packed_bytes
from r1_runtime.backends.cpu.cache_size import block_bytes
from r1_runtime.backends.selection import choose_backend
from r1_runtime.checkpoint.open import open_checkpoint

_TOKENS = 2048  # of the cache
_BLOCK = 16


def size_row(label: str, path: Path, client: Client) -> BenchmarkRow:
    """Memory with a full cache over weights and cache. The bar is 1.15."""
    (port,) = free_ports(1)
    checkpoint = open_checkpoint(path)
    choice = choose_backend(checkpoint, backend="cpu")
    weights = packed_bytes(checkpoint, choice.codecs)
    cache = _TOKENS // _BLOCK * block_bytes(checkpoint.description, choice.cache_type, _BLOCK)
    arguments = ("--max-model-len", "256", "--num-blocks", str(_TOKENS // _BLOCK))
    cpus = {min(os.sched_getaffinity(0))}
    with running("ours", ours(str(path), 1, port, arguments), port, cpus) as server:
        client.run(server, 8, 250, 4, SAMPLED)
        resident = server.anonymous_bytes()
    return BenchmarkRow(
        f"{label}, 8 streams of 250 tokens: memory over weights and cache",
        "x",
        resident / (weights + cache),
        bar=1.15,
    )


def growth_rows(label: str, path: Path, client: Client, requests: int) -> Iterator[BenchmarkRow]:
    """Growth of the memory over many requests of several lengths, after a warm-up."""
    (port,) = free_ports(1)
    cpus = {min(os.sched_getaffinity(0))}
    arguments = ("--max-model-len", "1024", "--num-blocks", "512")
    with running("ours", ours(str(path), 1, port, arguments), port, cpus) as server:
        sizes = []
        for batch in range(requests // 8):
            client.run(server, 8, 8 + 40 * (batch % 6), 1 + batch % 4, SAMPLED)
            if batch in (24, requests // 8 - 1):
                sizes.append(server.anonymous_bytes())
    yield BenchmarkRow(f"{label}: memory after 200 requests", "MiB", sizes[0] / 2**20)
    yield BenchmarkRow(
        f"{label}: memory after {requests} requests over that after 200",
        "x",
        sizes[1] / sizes[0],
        bar=1.05,
    )

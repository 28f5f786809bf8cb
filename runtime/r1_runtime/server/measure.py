"""Choices that depend on this processor, decided by a measurement at start: data type and threads.

Which of them is faster follows no rule of the model's size: bfloat16 needs half the memory traffic,
but without AVX512-BF16 or AMX a multiple of the arithmetic.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from r1_runtime.config import ModelConfig
from r1_runtime.engine.runner import Runner

_ROWS = (1, 8, 64)  # tokens of a step: one stream, several, part of a prompt
_LARGEST_SIDE = 2048
_MEASURED_PARAMETERS = 16_000_000  # more than the caches hold in either data type
_ROUNDS = 3
_LONGEST_SECONDS = 1.0  # of the rounds of one candidate
_WORTH_MORE_THREADS = 0.8  # the share of the time below which more threads are taken
_PREFILL_TOKENS = 64
_DECODE_STEPS = 4


@dataclass(frozen=True, slots=True)
class DtypeChoice:
    """The faster data type; milliseconds of each by the number of rows."""

    dtype: str
    milliseconds: Mapping[str, tuple[float, ...]]

    def line(self) -> str:
        """For the log."""
        figures = "; ".join(
            f"{dtype} {'/'.join(f'{value:.2f}' for value in values)} ms"
            for dtype, values in self.milliseconds.items()
        )
        rows = "/".join(map(str, _ROWS))
        return f"dtype {self.dtype} by measurement: linear layers at {rows} tokens: {figures}"


def measure_dtype(config: ModelConfig) -> DtypeChoice:
    """Time linear layers of the model's own sizes in float32 and bfloat16.

    The geometric mean of the ratios over the row counts decides. Sides are cut at 2048, and as many
    matrices are taken in turn as the processor's caches cannot hold, unless the model is smaller.
    """
    inputs = min(config.hidden_size, _LARGEST_SIDE)
    inner = max(config.moe_intermediate_size, config.q_lora_rank or config.kv_lora_rank)
    outputs = min(2 * inner, _LARGEST_SIDE)
    parameters = min(config.parameter_count(), _MEASURED_PARAMETERS)
    count = max(1, parameters // (inputs * outputs))
    times: dict[str, tuple[float, ...]] = {}
    for dtype in ("float32", "bfloat16"):
        times[dtype] = _linear_times(getattr(torch, dtype), count, inputs, outputs)
    return choose_dtype(times)


def choose_dtype(milliseconds: Mapping[str, tuple[float, ...]]) -> DtypeChoice:
    """bfloat16 where it is faster in the geometric mean."""
    ratios = [
        rough / exact
        for rough, exact in zip(milliseconds["bfloat16"], milliseconds["float32"], strict=True)
    ]
    faster = sum(math.log(ratio) for ratio in ratios) < 0
    return DtypeChoice("bfloat16" if faster else "float32", milliseconds)


@torch.inference_mode()
def _linear_times(dtype: torch.dtype, count: int, inputs: int, outputs: int) -> tuple[float, ...]:
    weights = torch.full((count, outputs, inputs), 0.01, dtype=dtype)
    times = []
    for rows in _ROWS:
        x = torch.full((rows, inputs), 0.5, dtype=dtype)
        some = weights[: max(1, count // rows)]  # many rows do not wait for memory

        def work(x: torch.Tensor = x, some: torch.Tensor = some) -> None:
            for weight in some:
                F.linear(x, weight)

        times.append(1000 * best_time(work) / len(some))
    return tuple(times)


def best_time(work: Callable[[], object]) -> float:
    """Seconds of the fastest of a few rounds, after one that is not counted.

    The fastest, because a busy neighbour only ever adds to a round.
    """
    work()
    times: list[float] = []
    begun = time.perf_counter()
    while len(times) < _ROUNDS and (not times or time.perf_counter() - begun < _LONGEST_SECONDS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return max(min(times), 1e-9)


def thread_candidates(cpus: int) -> list[int]:
    """Thread counts to try: powers of two, and the most that is sensible.

    From three CPUs on one is left to HTTP and the tokenizer.
    """
    most = cpus - 1 if cpus > 2 else cpus
    return sorted({1 << power for power in range(most.bit_length())} | {most})


def choose_threads(seconds: Mapping[int, float]) -> int:
    """The smallest count that no larger one beats clearly."""
    chosen, *others = sorted(seconds)
    for count in others:
        if seconds[count] < _WORTH_MORE_THREADS * seconds[chosen]:
            chosen = count
    return chosen


def measure_threads(runner: Runner, cpus: int) -> tuple[int, str]:
    """Time a prefill and a few decode steps by thread count; the choice and a line for the log.

    Leaves torch set to the chosen count, in the calling thread and those that begin later.
    """
    candidates = thread_candidates(cpus)
    if len(candidates) == 1:
        torch.set_num_threads(candidates[0])
        return candidates[0], f"{candidates[0]} thread: there is no other CPU"
    seconds: dict[int, float] = {}
    for count in candidates:
        torch.set_num_threads(count)
        seconds[count] = best_time(lambda: runner.rehearse(_PREFILL_TOKENS, _DECODE_STEPS))
    chosen = choose_threads(seconds)
    torch.set_num_threads(chosen)
    figures = ", ".join(f"{count}: {1000 * value:.1f} ms" for count, value in seconds.items())
    return chosen, f"{chosen} threads by measurement of {cpus} CPUs: {figures}"

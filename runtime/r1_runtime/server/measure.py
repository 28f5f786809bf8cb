"""Data type and thread count, chosen by a measurement at start.

The faster data type depends on the processor and not only on the model's size: bfloat16 needs half
the memory traffic, but several times the arithmetic without AVX512-BF16 or AMX.
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

_ROWS = (1, 8, 64)  # tokens of a step: one stream, several streams, part of a prompt
_LARGEST_SIDE = 2048
_MEASURED_PARAMETERS = 16_000_000  # more than the CPU caches hold in either data type
_ROUNDS = 3
_LONGEST_SECONDS = 1.0  # for all rounds of one candidate
_MAX_TIME_RATIO = 0.8  # more threads are used below this ratio of times
_PREFILL_TOKENS = 64
_DECODE_STEPS = 4


@dataclass(frozen=True, slots=True)
class DtypeChoice:
    """The faster data type, with the milliseconds of both by number of rows."""

    dtype: str
    milliseconds: Mapping[str, tuple[float, ...]]

    def line(self) -> str:
        """The choice as a log line."""
        figures = "; ".join(
            f"{dtype} {'/'.join(f'{value:.2f}' for value in values)} ms"
            for dtype, values in self.milliseconds.items()
        )
        rows = "/".join(map(str, _ROWS))
        return f"Using {self.dtype} by measurement of linear layers at {rows} tokens: {figures}"


def measure_dtype(config: ModelConfig) -> DtypeChoice:
    """Time linear layers of the model's own sizes in float32 and bfloat16.

    The criterion is the geometric mean of the ratios over the row counts. Sides are limited to 2048.
    The matrices together exceed the CPU caches, unless the model is smaller.
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
    """Choose bfloat16 where it is faster in the geometric mean."""
    ratios = [
        half / full
        for half, full in zip(milliseconds["bfloat16"], milliseconds["float32"], strict=True)
    ]
    faster = sum(math.log(ratio) for ratio in ratios) < 0
    return DtypeChoice("bfloat16" if faster else "float32", milliseconds)


@torch.inference_mode()
def _linear_times(dtype: torch.dtype, count: int, inputs: int, outputs: int) -> tuple[float, ...]:
    weights = torch.full((count, outputs, inputs), 0.01, dtype=dtype)
    times = []
    for rows in _ROWS:
        x = torch.full((rows, inputs), 0.5, dtype=dtype)
        some = weights[: max(1, count // rows)]  # many rows are not bound by memory

        def work(x: torch.Tensor = x, some: torch.Tensor = some) -> None:
            for weight in some:
                F.linear(x, weight)

        times.append(1000 * best_time(work) / len(some))
    return tuple(times)


def best_time(work: Callable[[], object]) -> float:
    """Seconds of the fastest of a few rounds, after a warm-up round.

    The minimum is used because other load on the machine only adds time.
    """
    work()
    times: list[float] = []
    started = time.perf_counter()
    while len(times) < _ROUNDS and (not times or time.perf_counter() - started < _LONGEST_SECONDS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return max(min(times), 1e-9)


def thread_candidates(cpus: int) -> list[int]:
    """Thread counts to try: powers of two, and the maximum.

    With three or more CPUs, one stays free for HTTP and the tokenizer.
    """
    most = cpus - 1 if cpus > 2 else cpus
    return sorted({1 << power for power in range(most.bit_length())} | {most})


def choose_threads(seconds: Mapping[int, float]) -> int:
    """The smallest count, unless a larger one takes less than 0.8 of its time."""
    chosen, *others = sorted(seconds)
    for count in others:
        if seconds[count] < _MAX_TIME_RATIO * seconds[chosen]:
            chosen = count
    return chosen


def measure_threads(runner: Runner, cpus: int) -> tuple[int, str]:
    """Time a prefill and a few decode steps by thread count; return the choice and a log line.

    torch then uses the chosen count, in the calling thread and in threads that start later.
    """
    candidates = thread_candidates(cpus)
    if len(candidates) == 1:
        torch.set_num_threads(candidates[0])
        return candidates[0], f"Using {candidates[0]} thread: only one CPU is available"
    seconds: dict[int, float] = {}
    for count in candidates:
        torch.set_num_threads(count)
        seconds[count] = best_time(lambda: runner.dummy_run(_PREFILL_TOKENS, _DECODE_STEPS))
    chosen = choose_threads(seconds)
    torch.set_num_threads(chosen)
    figures = ", ".join(f"{count}: {1000 * value:.1f} ms" for count, value in seconds.items())
    return chosen, f"Using {chosen} threads by measurement on {cpus} CPUs: {figures}"

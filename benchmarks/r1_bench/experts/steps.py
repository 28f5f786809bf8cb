"""Texts and single tokens through the native backend, with the CPU and the wall time that they took."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from r1_runtime.backends.cpu.backend import Codecs, CpuBackend
from r1_runtime.backends.cpu.library import CacheType, Codec
from r1_runtime.backends.step_plan import StepPlan, sequence_plan
from r1_runtime.checkpoint.open import open_checkpoint
from r1_runtime.experts.residency import ExpertResidency

BLOCK = 16
POSITIONS = 1024


def load(
    model: Path, residency: ExpertResidency | None = None, codec: Codec = Codec.FLOAT32
) -> CpuBackend:
    """A model on one thread with a cache for one sequence."""
    return CpuBackend(
        open_checkpoint(model),
        codecs=Codecs(codec, codec, codec, codec),
        cache_type=CacheType.FLOAT16,
        blocks=POSITIONS // BLOCK,
        block_size=BLOCK,
        max_positions=POSITIONS,
        residency=residency,
    )


def plan(tokens: NDArray[np.int32], start: int, outputs: int) -> StepPlan:
    """A step with the tokens of one sequence from `start` on; its last rows have outputs."""
    return sequence_plan(tokens, start, outputs, BLOCK)


@dataclass(frozen=True, slots=True)
class TextScore:
    """TextScore of W windows.

    Attributes:
        losses: [W] mean negative log-probability of a token.
        cpu_seconds: per token.
        experts: per token and layer.
    """

    losses: NDArray[np.float64]
    cpu_seconds: float
    experts: float

    def change(self, dense: TextScore, draws: int = 2000) -> tuple[float, float, float]:
        """Change of the perplexity in percent with its 95 % interval, by a paired bootstrap."""
        differences = self.losses - dense.losses
        chosen = np.random.default_rng(0).integers(0, len(differences), (draws, len(differences)))
        low, high = np.quantile(differences[chosen].mean(1), (0.025, 0.975))
        mean, low, high = 100 * np.expm1([differences.mean(), low, high])
        return float(mean), float(low), float(high)


def score(backend: CpuBackend, windows: NDArray[np.int32]) -> TextScore:
    """Score each window [W, length] on its own, its tokens in one step."""
    before, started = backend.expert_totals(), time.process_time()
    losses = []
    for window in windows:
        step = plan(window, 0, len(window) - 1)
        # The last token is a target only.
        outputs = np.arange(len(window) - 1, dtype=np.int32)
        sampling = replace(step.sampling, targets=window[1:].copy())
        result = backend.step(replace(step, output_rows=outputs, sampling=sampling))
        losses.append(-float(result.logprobs.mean(dtype=np.float64)))
    seconds = (time.process_time() - started) / windows.size
    after = backend.expert_totals()
    rows = after.rows - before.rows
    experts = (after.chosen - before.chosen) / rows if rows else 0.0
    return TextScore(np.array(losses), seconds, experts)


@dataclass(frozen=True, slots=True)
class DecodeTime:
    """Seconds per token, one token per step."""

    cpu: float
    wall: float


def decode(
    backend: CpuBackend, window: NDArray[np.int32], prompt: int, *, evict: bool = False
) -> DecodeTime:
    """Compute `prompt` tokens in one step and the others one by one; the time of the latter.

    Args:
        backend: with room for the window.
        window: [length] tokens.
        prompt: tokens of the first step.
        evict: before each single step, take the mapped experts out of the page cache; not timed.
    """
    backend.step(plan(window[:prompt], 0, 1))
    cpu = wall = 0.0
    for at in range(prompt, len(window)):
        if evict:
            backend.evict_experts()
        step = plan(window[at : at + 1], at, 1)
        started = time.process_time(), time.perf_counter()
        backend.step(step)
        cpu += time.process_time() - started[0]
        wall += time.perf_counter() - started[1]
    count = len(window) - prompt
    return DecodeTime(cpu / count, wall / count)

"""Hot and cold experts: what 70 % in memory costs, from the page cache and from the disk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from r1_bench.experts.steps import decode, load
from r1_bench.rows import BenchmarkRow
from r1_runtime.backends.cpu.backend import CpuBackend
from r1_runtime.experts.dynamic_gate import DynamicGate
from r1_runtime.experts.residency import ExpertResidency, ExpertTotals, Uses

RESIDENT = 0.7
_PROMPT = 64
_BAR = 0.75  # speed with 70 % in memory, as a share of full residency


@dataclass(frozen=True, slots=True)
class Tiers:
    """What is measured.

    Attributes:
        model: a mixture of experts.
        gate: how many experts a token uses.
        uses: the recorded profile.
        windows: [W, length] tokens of another text than the profile's.
        folder: of the packed files, on a disk.
    """

    model: Path
    gate: DynamicGate | None
    uses: Uses
    windows: NDArray[np.int32]
    folder: Path


def tier_rows(given: Tiers) -> Iterator[BenchmarkRow]:
    """Rows of decoding at one stream, wall time in turns with all experts in memory."""
    hot = ExpertResidency(RESIDENT, given.folder, given.uses, promote=False)
    random = np.random.default_rng(0).permutation(given.uses.size).reshape(given.uses.shape)
    variants = {
        "by profile": hot,
        "random": replace(hot, uses=random.astype(np.uint64)),
        "by profile, no prefetch": replace(hot, prefetch=False),
        "by promotion": replace(hot, uses=None, promote=True),
    }
    full = load(given.model)
    full.set_gate(given.gate)
    speeds: dict[tuple[str, bool], float] = {}
    for name, residency in variants.items():
        backend = load(given.model, residency)
        backend.set_gate(given.gate)
        before = backend.expert_totals()
        for evicted in (False, True):
            speeds[name, evicted] = _relative_speed(full, backend, given.windows, evicted)
        yield _hit_row(name, before, backend.expert_totals())
        backend.close()
    full.close()
    for (name, evicted), speed in speeds.items():
        where = "read from the disk" if evicted else "in the page cache"
        yield BenchmarkRow(
            f"decode, {RESIDENT:.0%} in memory {name}, the others {where}",
            "of full residency",
            speed,
            bar=_BAR if name == "by profile" else None,
            higher_is_better=True,
        )
    yield BenchmarkRow(
        "decode, by profile against random, the others read from the disk",
        "share of full speed",
        speeds["by profile", True],
        "random placement",
        speeds["random", True],
        bar=1.0,
        higher_is_better=True,
    )


def _relative_speed(
    full: CpuBackend, tiered: CpuBackend, windows: NDArray[np.int32], evict: bool
) -> float:
    """Median of the ratios of paired turns, 1 for equal times."""
    return median(
        decode(full, window, _PROMPT).wall / decode(tiered, window, _PROMPT, evict=evict).wall
        for window in windows
    )


def _hit_row(name: str, before: ExpertTotals, after: ExpertTotals) -> BenchmarkRow:
    hits, misses = after.hits - before.hits, after.misses - before.misses
    return BenchmarkRow(
        f"expert reads in memory, {RESIDENT:.0%} {name}", "share", hits / (hits + misses)
    )

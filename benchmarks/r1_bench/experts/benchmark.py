"""Mixtures of experts made from the real small model: quality, number of experts, and tiers.

`python -m r1_bench.experts [--model DIR] [--windows 8]`

DIR is a model that `r1_runtime.conversion.mixture` made; without it, one is made in `out/` (10 to 40
minutes on one core). Perplexity is that of the Python manual's topics, with which nothing was fitted,
against the same model with all experts, which equals the dense model. Writes `out/bench-experts.json`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from r1_bench.experts.steps import load, score
from r1_bench.experts.tiers import Tiers, tier_rows
from r1_bench.rows import BenchmarkRow, write
from r1_runtime.checkpoint.open import open_checkpoint
from r1_runtime.conversion.expert_profile import record_uses
from r1_runtime.conversion.mixture import Settings, convert
from r1_runtime.conversion.text import fitting_texts, held_out_texts, token_windows
from r1_runtime.experts.dynamic_gate import DynamicGate
from r1_runtime.server.options import resolve_model
from r1_runtime.tokenizer.open import open_tokenizer

OUT = Path("out/smollm2-experts")
SETTINGS = Settings(
    experts=24, shared=768, tokens=12288, steps=400, seed=0, mass=0.9, mean=12.0, minimum=2
)
PARTS = ("quality", "tiers")
_WINDOW = 512
_DECODE = 96  # tokens of a decoding turn, the prompt included
_BAR = 1.0  # percent of perplexity that dynamic experts may lose at a mean of half of the experts


def quality_rows(
    model: Path, windows: NDArray[np.int32], masses: Sequence[float]
) -> Iterator[BenchmarkRow]:
    """Perplexity and CPU time against the number of experts, chosen by mass and fixed."""
    backend = load(model)
    [experts] = {count for count in backend.expert_counts if count}
    every = score(backend, windows)
    backend.set_gate(DynamicGate(1.0, experts, experts))
    looped = score(backend, windows)
    gates = {f"mass {mass:g}": DynamicGate(mass, 2, experts) for mass in masses}
    gates |= {f"fixed {k}": DynamicGate(1.0, k, k) for k in (experts // 2, experts * 3 // 4)}
    yield BenchmarkRow(
        f"choosing all {experts} experts one by one",
        "CPU s/token",
        looped.cpu_seconds,
        "no choice",
        every.cpu_seconds,
    )
    for name, gate in gates.items():
        backend.set_gate(gate)
        scores = score(backend, windows)
        mean, low, high = scores.change(every)
        half = name == f"mass {SETTINGS.mass:g}"
        label = f"{name}: {scores.experts:.1f} of {experts} experts"
        yield BenchmarkRow(
            f"{label}, perplexity ({low:+.2f} to {high:+.2f})",
            "%",
            mean,
            bar=_BAR if half else None,
        )
        yield BenchmarkRow(
            f"{label}, prefill", "CPU s/token", scores.cpu_seconds, "all", every.cpu_seconds
        )
    backend.close()


def measured_rows(
    model: Path, windows: int, folder: Path, parts: Sequence[str] = PARTS
) -> Iterator[BenchmarkRow]:
    """The rows of the named parts, on `windows` texts; packed files are in `folder`."""
    tokenizer = open_tokenizer(model, open_checkpoint(model).description.vocab_size)
    held_out = token_windows(held_out_texts(), tokenizer, windows * _WINDOW, _WINDOW)
    texts = held_out.numpy().astype(np.int32)
    if "quality" in parts:
        yield from quality_rows(model, texts, (SETTINGS.mass, 0.95, 0.98))
    if "tiers" not in parts:
        return
    gate = DynamicGate(SETTINGS.mass, SETTINGS.minimum, SETTINGS.experts)
    fitting = token_windows(fitting_texts(), tokenizer, 4 * _WINDOW, _WINDOW)
    uses, _ = record_uses(model, fitting, gate)
    yield from tier_rows(Tiers(model, gate, uses, texts[:, :_DECODE], folder))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; 1 if a limit is missed."""
    parser = argparse.ArgumentParser(
        prog="python -m r1_bench.experts",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", type=Path, help="a split model; made where absent")
    parser.add_argument("--windows", type=int, default=8, help="texts of 512 tokens (8)")
    parser.add_argument("--folder", type=Path, default=Path("out"), help="of packed files (out)")
    parser.add_argument("--part", choices=PARTS, action="append", help="measure this part alone")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    given.folder.mkdir(parents=True, exist_ok=True)
    model = given.model or OUT
    if not (model / "config.json").is_file():
        convert(resolve_model("bundled:smollm2"), model, SETTINGS, [], torch.float32)
    rows = []
    for row in measured_rows(model, given.windows, given.folder, given.part or PARTS):
        sys.stderr.write(f"{row.name}: {row.ours:.4g} {row.unit}\n")
        rows.append(row)
    write("experts", rows)
    return 1 if any(row.ok is False for row in rows) else 0

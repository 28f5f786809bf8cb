"""Records how often each expert of a model computes a token: the profile of `--expert-profile`.

    python -m r1_runtime.conversion.expert_profile --model DIR --out profile.json --expert-mass 0.9

A server with `--resident-experts` keeps the most used experts in memory.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from torch import Tensor

from r1_runtime.backends.cpu.backend import CpuBackend
from r1_runtime.backends.cpu.library import CacheType
from r1_runtime.backends.step_plan import sequence_plan
from r1_runtime.checkpoint.open import open_checkpoint
from r1_runtime.conversion.text import fitting_texts, token_windows
from r1_runtime.errors import ModelLoadError, OptionError
from r1_runtime.experts.dynamic_gate import DynamicGate
from r1_runtime.experts.residency import Uses, write_profile
from r1_runtime.server.options import resolve_model
from r1_runtime.tokenizer.open import open_tokenizer

_WINDOW = 512
_BLOCK = 16


def record_uses(
    model: Path, windows: Tensor, gate: DynamicGate | None, threads: int = 1
) -> tuple[Uses, float]:
    """Uses [layers, experts] on a text, and the mean number of experts of a token.

    Args:
        model: folder or file.
        windows: [windows, length] tokens; the length is a multiple of 16.
        gate: how many experts a token uses; None for the model's own number.
        threads: CPU threads.

    Raises:
        ModelLoadError: the model does not open.
    """
    length = windows.shape[1]
    backend = CpuBackend(
        open_checkpoint(model),
        cache_type=CacheType.FLOAT16,
        blocks=length // _BLOCK,
        block_size=_BLOCK,
        max_positions=length,
        threads=threads,
        gate=gate,
    )
    for window in windows.numpy().astype(np.int32):
        backend.step(sequence_plan(window, 0, 1, _BLOCK))
    uses, mean = backend.expert_uses(), backend.expert_totals().mean_experts
    backend.close()
    return uses, mean


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m r1_runtime.conversion.expert_profile",
        description=__doc__.splitlines()[0],
    )
    add = parser.add_argument
    add("--model", required=True, help="checkpoint folder, GGUF file, or bundled:NAME")
    add("--out", type=Path, required=True, help="the profile, a JSON file")
    add("--tokens", type=int, default=8192, help="tokens of text (default: 8192)")
    add("--text", type=Path, action="append", default=[], help="text file; repeat for several")
    add(
        "--expert-mass", type=float, help="as the server will have it (default: the model's number)"
    )
    add("--min-experts", type=int, default=2)
    add("--max-experts", type=int, default=8)
    add("--threads", type=int, default=1, help="CPU threads (default: 1)")
    given = parser.parse_args()
    try:
        model = resolve_model(given.model)
        gate = None
        if given.expert_mass is not None:
            gate = DynamicGate(given.expert_mass, given.min_experts, given.max_experts)
        description = open_checkpoint(model).description
        tokenizer = open_tokenizer(model, description.vocab_size)
        windows = token_windows(fitting_texts(given.text), tokenizer, given.tokens, _WINDOW)
        uses, mean = record_uses(model, windows, gate, given.threads)
        write_profile(given.out, uses, {"tokens": windows.numel(), "expertsPerToken": mean})
    except (ModelLoadError, OptionError, ValueError, OSError) as error:
        raise SystemExit(f"expert profile: {error}") from error
    sys.stdout.write(
        f"{windows.numel()} tokens, {mean:.2f} experts per token and layer: {given.out}\n"
    )


if __name__ == "__main__":
    main()

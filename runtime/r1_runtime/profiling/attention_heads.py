"""`python -m r1_runtime.profiling.attention_heads MODEL TEXT`: choose the mode of each key head, offline.

The text is a file of the user's own kind. Its end is computed token by token with one head at a time in
window or sparse mode and all others dense. The head gets the mode that reads least and changes the
distribution of the next token by at most the budget (Kullback-Leibler divergence, nats per token).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from r1_runtime.backends.cpu.backend import CpuBackend
from r1_runtime.backends.cpu.library import CacheType
from r1_runtime.backends.step_plan import StepPlan, sequence_plan
from r1_runtime.checkpoint.open import open_checkpoint
from r1_runtime.errors import OptionError, RuntimeFault
from r1_runtime.server.options import resolve_model
from r1_runtime.sparsity.heads import (
    FILE_NAME,
    HeadMode,
    HeadModes,
    key_heads,
    uniform,
    write_head_modes,
)
from r1_runtime.sparsity.policy import DynamicSparseAttention
from r1_runtime.tokenizer.open import open_tokenizer

_BLOCK = 16
_CHUNK = 256  # tokens of a step of the prompt

Logits = NDArray[np.float32]


class HeadProfile:
    """Distributions after the last tokens of a text, for any modes of the heads.

    Args:
        backend: the model, loaded with a policy and with blocks for the whole text.
        policy: the policy whose heads are profiled.
        tokens: the text.
        rows: last tokens that are compared.
    """

    def __init__(
        self,
        backend: CpuBackend,
        policy: DynamicSparseAttention,
        tokens: Sequence[int],
        rows: int,
    ) -> None:
        self._backend, self._policy = backend, policy
        self._tokens, self._rows = tokens, rows
        self.heads = key_heads(backend.description)
        start = len(tokens) - rows
        for at in range(0, start, _CHUNK):
            end = min(at + _CHUNK, start)
            backend.step(self._plan(at, end, end))
        self._dense = self._log_probabilities(uniform(self.heads, HeadMode.DENSE))

    def divergence(self, modes: HeadModes) -> float:
        """Mean divergence of the next token's distribution from dense attention, in nats."""
        changed = self._log_probabilities(modes)
        each = (np.exp(self._dense) * (self._dense - changed)).sum(axis=1)
        return float(each.mean())

    def _log_probabilities(self, modes: HeadModes) -> Logits:
        self._backend.set_sparsity(replace(self._policy, heads=modes))
        end = len(self._tokens)
        _, logits = self._backend.step_with_logits(self._plan(end - self._rows, end, 0))
        shifted = logits - logits.max(axis=1, keepdims=True)
        found: Logits = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        return found

    def _plan(self, start: int, end: int, prompt_length: int) -> StepPlan:
        tokens = np.array(self._tokens[start:end], np.int32)
        outputs = 1 if prompt_length else end - start
        return sequence_plan(tokens, start, outputs, _BLOCK, prompt_length)


def choose_modes(profile: HeadProfile, budget: float) -> HeadModes:
    """The modes that read least within the budget, which the heads share equally."""
    heads = profile.heads
    each = budget / sum(heads)
    chosen = [list(layer) for layer in uniform(heads, HeadMode.DENSE).layers]
    for layer, count in enumerate(heads):
        for head in range(count):
            for mode in (HeadMode.WINDOW, HeadMode.SPARSE):
                trial = [list(row) for row in uniform(heads, HeadMode.DENSE).layers]
                trial[layer][head] = mode
                if profile.divergence(HeadModes(tuple(map(tuple, trial)))) <= each:
                    chosen[layer][head] = mode
                    break
    return HeadModes(tuple(map(tuple, chosen)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Profile a model; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("model", help="checkpoint folder, GGUF file, or bundled:NAME")
    add("text", type=Path, help="text of the kind that the model will continue")
    add("--output", type=Path, help=f"default: {FILE_NAME} beside the checkpoint")
    add("--context", type=int, default=4096, help="tokens of the text (default: 4096)")
    add("--rows", type=int, default=64, help="last tokens that are compared (default: 64)")
    add("--budget", type=float, default=0.01, help="nats per token, all heads (default: 0.01)")
    add("--sparsity", type=float, default=0.8, help="see --attention-sparsity (default: 0.8)")
    add("--window", type=int, default=512, help="see --attention-window (default: 512)")
    add("--threads", type=int, default=1, help="CPU threads (default: 1)")
    given = parser.parse_args(arguments)
    try:
        modes = _profile(given)
    except RuntimeFault as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"{modes.describe()}\n")
    return 0


def _profile(given: argparse.Namespace) -> HeadModes:
    path = resolve_model(given.model)
    checkpoint = open_checkpoint(path)
    description = checkpoint.description
    tokenizer = open_tokenizer(path, description.vocab_size, description.eos_token_ids)
    tokens = tokenizer.encode(given.text.read_text(encoding="utf-8"))[: given.context]
    if len(tokens) < min(given.context, 1024):
        raise OptionError(
            f"{given.text}: it has {len(tokens)} tokens, and a profile needs at least"
            f" {min(given.context, 1024)}. Fix: a longer text."
        )
    policy = DynamicSparseAttention(
        sparsity=given.sparsity, adaptive=True, window=given.window, from_context=1
    )
    backend = CpuBackend(
        checkpoint,
        cache_type=CacheType.FLOAT16,
        blocks=-(-len(tokens) // _BLOCK),
        block_size=_BLOCK,
        threads=given.threads,
        sparsity=policy,
    )
    modes = choose_modes(HeadProfile(backend, policy, tokens, given.rows), given.budget)
    folder = path if path.is_dir() else path.parent
    write_head_modes(given.output or folder / FILE_NAME, modes)
    return modes


if __name__ == "__main__":
    raise SystemExit(main())

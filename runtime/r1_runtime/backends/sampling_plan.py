"""Sampling of all output rows of a step: parameter arrays instead of a loop over requests.

The order of processors is that of vLLM: logit bias, penalties, allowed tokens, temperature, top-k,
top-p, min-p. A row draws with its own counter-based generator (seed, position), so a result depends
neither on the batch nor on the backend.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class SamplingPlan:
    """Parameters of S output rows.

    Attributes:
        temperatures: [S] float32; 0 selects the most probable token.
        top_k: [S] int32; 0 for all tokens.
        top_p: [S] float32 in (0, 1].
        min_p: [S] float32; tokens below this share of the best probability are excluded; 0 for none.
        seeds: [S] uint64 key of the generator.
        counters: [S] uint64 position of the sampled token: one draw per position.
        targets: [S] int32; a token whose log-probability is returned without sampling, or -1.
        top_counts: [S] int32; number of most probable tokens to return, or `NO_LOGPROB`.
        adjust_starts: [S + 1] int32; first entry of each row in the two arrays below.
        adjust_tokens: int32 tokens whose logits change, at most once per row.
        adjust_values: float32 [n, 3]: factor on a positive logit, factor on a negative logit, and
            the addend after it (repetition penalty, then bias and additive penalties).
        masks: [S] index of a row in `mask_bits`, or -1 for all tokens allowed.
        mask_bits: uint32 [masks, ceil(vocab / 32)], bit set where the token is allowed.
    """

    temperatures: NDArray[np.float32]
    top_k: NDArray[np.int32]
    top_p: NDArray[np.float32]
    min_p: NDArray[np.float32]
    seeds: NDArray[np.uint64]
    counters: NDArray[np.uint64]
    targets: NDArray[np.int32]
    top_counts: NDArray[np.int32]
    adjust_starts: NDArray[np.int32]
    adjust_tokens: NDArray[np.int32]
    adjust_values: NDArray[np.float32]
    masks: NDArray[np.int32]
    mask_bits: NDArray[np.uint32]


NO_LOGPROB = -1
"""The `top_counts` entry of a row whose log-probability is not read, which saves a pass over its logits."""


def greedy_plan(rows: int, *, logprobs: bool = True) -> SamplingPlan:
    """A plan in which every row takes its most probable token, with its log-probability or without."""
    zeros = np.zeros(rows, np.int32)
    return SamplingPlan(
        temperatures=np.zeros(rows, np.float32),
        top_k=zeros,
        top_p=np.ones(rows, np.float32),
        min_p=np.zeros(rows, np.float32),
        seeds=np.zeros(rows, np.uint64),
        counters=np.zeros(rows, np.uint64),
        targets=np.full(rows, -1, np.int32),
        top_counts=zeros if logprobs else np.full(rows, NO_LOGPROB, np.int32),
        adjust_starts=np.zeros(rows + 1, np.int32),
        adjust_tokens=np.empty(0, np.int32),
        adjust_values=np.empty((0, 3), np.float32),
        masks=np.full(rows, -1, np.int32),
        mask_bits=np.empty((0, 0), np.uint32),
    )

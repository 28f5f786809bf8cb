"""Exact specification of `SamplingPlan`, in numpy over logits [S, vocab].

Per row: adjustments in float32, then the mask. Temperature 0 takes the largest logit, the lowest token
of equal ones. Otherwise the weight of a token is exp((logit - max) / temperature) in float64, and the
filters are:

1. top-k: tokens with at least the k-th largest logit; ties at the k-th value all stay.
2. top-p: the smallest set of most probable tokens, ties by lower token first, whose weight reaches
   top_p of what top-k left. The sums run in that order.
3. min-p: tokens with at least min_p of the largest weight.

The most probable token always stays. With the remaining tokens in ascending order, the sampled one is
the first whose cumulative weight exceeds u * total, where u is the row's draw (`philox.uniform`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from r1_runtime.backends.reference.philox import uniform
from r1_runtime.backends.sampling_plan import SamplingPlan
from r1_runtime.backends.step_plan import StepResult

_NONE = -1
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int32 = NDArray[np.int32]


def sample_rows(logits: Float32, plan: SamplingPlan) -> StepResult:
    """Sample or score each row.

    Args:
        logits: [S, vocab] as the model computed them; not modified.
        plan: the parameters of the S rows.

    Returns:
        Tokens and log-probabilities. The token is -1 where a logit is not finite, and where no token
        is allowed.
    """
    rows = len(logits)
    finite = np.asarray(np.isfinite(logits).all(axis=1))
    draws = uniform(plan.seeds, plan.counters)
    tokens = np.full(rows, _NONE, np.int32)
    logprobs = np.full(rows, np.nan, np.float32)
    tops: list[tuple[Int32, Float32]] = []
    for row in range(rows):
        if not finite[row]:
            tops.append((np.empty(0, np.int32), np.empty(0, np.float32)))
            continue
        target = int(plan.targets[row])
        tokens[row] = target if target >= 0 else _sample(logits[row], plan, row, draws[row])
        scores = _log_softmax(logits[row])
        if tokens[row] >= 0:
            logprobs[row] = scores[tokens[row]]
        best = _most_probable(logits[row], max(0, int(plan.top_counts[row])))
        tops.append((best, scores[best].astype(np.float32)))
    return StepResult(
        tokens, logprobs, tuple(top for top, _ in tops), tuple(values for _, values in tops)
    )


def _sample(logits: Float32, plan: SamplingPlan, row: int, draw: float) -> int:
    """The sampled token of one row, or -1 when no token is allowed."""
    adjusted = _adjusted(logits, plan, row)
    best = int(adjusted.argmax())
    if adjusted[best] == -np.inf:
        return _NONE
    temperature = float(plan.temperatures[row])
    if temperature == 0:
        return best
    shifted = adjusted.astype(np.float64) - np.float64(adjusted[best])
    weights = np.exp(shifted / temperature)
    top_k, top_p = int(plan.top_k[row]), float(plan.top_p[row])
    if 0 < top_k < len(weights):
        least = np.partition(adjusted, -top_k)[-top_k]
        weights[adjusted < least] = 0
    if top_p < 1:
        _keep_top_p(weights, top_p)
    weights[weights < float(plan.min_p[row])] = 0  # the largest weight is 1
    cumulative = weights.cumsum()
    return int(np.searchsorted(cumulative, draw * cumulative[-1], side="right"))


def _adjusted(logits: Float32, plan: SamplingPlan, row: int) -> Float32:
    """A copy of the row's logits with adjustments and mask; excluded tokens are -inf."""
    adjusted = logits.astype(np.float32, copy=True)
    entries = slice(plan.adjust_starts[row], plan.adjust_starts[row + 1])
    changed, values = plan.adjust_tokens[entries], plan.adjust_values[entries]
    picked = adjusted[changed]
    adjusted[changed] = picked * np.where(picked > 0, values[:, 0], values[:, 1]) + values[:, 2]
    if plan.masks[row] >= 0:
        bits = plan.mask_bits[plan.masks[row]]
        allowed = np.unpackbits(bits.view(np.uint8), bitorder="little")[: len(adjusted)]
        adjusted[allowed == 0] = -np.inf
    return adjusted


def _keep_top_p(weights: Float64, top_p: float) -> None:
    """Set the weights outside the smallest set that reaches `top_p` to 0."""
    order = np.argsort(-weights, kind="stable")
    mass = weights[order].cumsum()
    size = int(np.searchsorted(mass, top_p * mass[-1], side="left")) + 1
    weights[order[size:]] = 0


def _log_softmax(logits: Float32) -> Float64:
    shifted = logits.astype(np.float64) - np.float64(logits.max())
    return np.asarray(shifted - np.log(np.exp(shifted).sum()))


def _most_probable(logits: Float32, count: int) -> Int32:
    """The `count` tokens with the largest logits, best first; of equal ones the lower token first."""
    return np.argsort(-logits, kind="stable")[:count].astype(np.int32)

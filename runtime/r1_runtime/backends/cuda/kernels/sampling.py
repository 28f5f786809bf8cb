"""One token per row of logits; `backends/reference/sampler.py` is the specification.

Top-k and top-p keep the tokens down to a boundary (logit, token) in the order "larger logit first, of
equal ones the lower token first". The boundary comes from one sort (`boundaries`); the kernel does
the rest: finite or not, largest logit, log-sum-exp, draw by Philox4x32-10, choice, log-probability.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

_TILE = 2048  # tokens


@dataclass(frozen=True, slots=True)
class RowParameters:
    """Parameters of S rows on the device; see `SamplingPlan`.

    Attributes:
        temperatures: [S] float32.
        min_p: [S] float32.
        seeds: [S] int64, the bits of the unsigned key.
        counters: [S] int64, the bits of the unsigned position.
        targets: [S] int32, or -1.
        least_logits: [S] float32 logit of the boundary.
        last_tokens: [S] int32 last token that stays among those of that logit.
    """

    temperatures: Tensor
    min_p: Tensor
    seeds: Tensor
    counters: Tensor
    targets: Tensor
    least_logits: Tensor
    last_tokens: Tensor


@triton.jit
def _sample_kernel(
    logits, logit_row,
    temperatures, min_p, seeds, counters, targets, least_logits, last_tokens,
    tokens, logprobs,
    vocabulary,
    TILE: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    from_logit = logits + row.to(tl.int64) * logit_row
    highest = tl.full((), float("-inf"), tl.float32)
    best = tl.full((), 0, tl.int32)
    unusable = tl.full((), 0, tl.int32)
    for begin in range(0, vocabulary, TILE):
        token = begin + tl.arange(0, TILE)
        inside = token < vocabulary
        value = tl.load(from_logit + token, mask=inside, other=0.0)
        # NaN and infinities fail this comparison.
        unusable += tl.sum(
            (inside & ((tl.abs(value) <= 3.4028234663852886e38) == 0)).to(tl.int32), 0
        )
        value = tl.where(inside, value, float("-inf"))
        top = tl.max(value, 0)
        first = tl.min(tl.where(value == top, token, vocabulary), 0)
        best = tl.where(top > highest, first, best)
        highest = tl.maximum(highest, top)

    temperature = tl.load(temperatures + row).to(tl.float64)
    divisor = tl.where(temperature == 0.0, 1.0, temperature)
    share = tl.load(min_p + row).to(tl.float64)
    least = tl.load(least_logits + row)
    last = tl.load(last_tokens + row)
    peak = highest.to(tl.float64)
    everything = tl.full((), 0.0, tl.float64)
    total = tl.full((), 0.0, tl.float64)
    for begin in range(0, vocabulary, TILE):
        token = begin + tl.arange(0, TILE)
        inside = token < vocabulary
        value = tl.load(from_logit + token, mask=inside, other=float("-inf"))
        shifted = value.to(tl.float64) - peak
        everything += tl.sum(tl.where(inside, tl.exp(shifted), 0.0), 0)
        weight = tl.exp(shifted / divisor)
        stays = (value > least) | ((value == least) & (token <= last))
        stays = inside & stays & (weight >= share)
        total += tl.sum(tl.where(stays, weight, 0.0), 0)

    counter = tl.load(counters + row)
    zero = tl.full((), 0, tl.uint32)
    low = (counter & 0xFFFFFFFF).to(tl.uint32)
    high = ((counter >> 32) & 0xFFFFFFFF).to(tl.uint32)
    word0, word1, _, _ = tl.philox(tl.load(seeds + row).to(tl.uint64), low, high, zero, zero)
    draw = (word0 >> 5).to(tl.float64) * 67108864.0 + (word1 >> 6).to(tl.float64)
    threshold = draw / 9007199254740992.0 * total

    before = tl.full((), 0.0, tl.float64)
    chosen = vocabulary
    fallback = tl.full((), 0, tl.int32)  # the last token that stays, where rounding exceeds the sum
    for begin in range(0, vocabulary, TILE):
        token = begin + tl.arange(0, TILE)
        inside = token < vocabulary
        value = tl.load(from_logit + token, mask=inside, other=float("-inf"))
        weight = tl.exp((value.to(tl.float64) - peak) / divisor)
        stays = (value > least) | ((value == least) & (token <= last))
        stays = inside & stays & (weight >= share)
        weight = tl.where(stays, weight, 0.0)
        reached = stays & (before + tl.cumsum(weight, 0) > threshold)
        chosen = tl.minimum(chosen, tl.min(tl.where(reached, token, vocabulary), 0))
        fallback = tl.maximum(fallback, tl.max(tl.where(stays, token, 0), 0))
        before += tl.sum(weight, 0)
    chosen = tl.where(chosen == vocabulary, fallback, chosen)
    target = tl.load(targets + row)
    result = tl.where(temperature == 0.0, best, chosen)
    result = tl.where(target >= 0, target, result)
    picked = tl.load(from_logit + result).to(tl.float64)
    logprob = (picked - peak - tl.log(everything)).to(tl.float32)
    tl.store(tokens + row, tl.where(unusable > 0, -1, result))
    tl.store(logprobs + row, tl.where(unusable > 0, float("nan"), logprob))


def sample(logits: Tensor, rows: RowParameters) -> tuple[Tensor, Tensor]:
    """Tokens [S] int32, -1 where a logit is not finite, and their log-probabilities [S] float32.

    Args:
        logits: [S, vocab] float32.
        rows: the parameters.
    """
    count, vocabulary = logits.shape
    tokens = torch.empty(count, dtype=torch.int32, device=logits.device)
    logprobs = torch.empty(count, dtype=torch.float32, device=logits.device)
    if count:
        _sample_kernel[(count,)](
            logits, logits.stride(0),
            rows.temperatures, rows.min_p, rows.seeds, rows.counters, rows.targets,
            rows.least_logits, rows.last_tokens,
            tokens, logprobs,
            vocabulary,
            TILE=min(_TILE, triton.next_power_of_2(vocabulary)),
            num_warps=8,
        )  # fmt: skip
    return tokens, logprobs


def boundaries(
    logits: Tensor, temperatures: Tensor, top_k: Tensor, top_p: Tensor
) -> tuple[Tensor, Tensor]:
    """The last (logit, token) that top-k and top-p keep in each row.

    Args:
        logits: [S, vocab] float32.
        temperatures: [S] float32.
        top_k: [S] int32; 0 for all tokens.
        top_p: [S] float32; 1 for all tokens.

    Returns:
        Logits [S] float32 and tokens [S] int32.
    """
    vocabulary = logits.shape[1]
    ordered, order = logits.sort(dim=1, descending=True, stable=True)
    wanted = torch.where(top_k > 0, top_k.clamp(max=vocabulary), vocabulary).long()
    kth = ordered.gather(1, wanted[:, None] - 1)
    stays = ordered >= kth  # ties at the k-th value all stay
    divisor = torch.where(temperatures == 0, 1.0, temperatures).double()[:, None]
    weights = ((ordered.double() - ordered[:, :1].double()) / divisor).exp()
    mass = torch.where(stays, weights, 0.0).cumsum(1)
    enough = top_p.double() * mass[:, -1]
    size = (mass < enough[:, None]).sum(1) + 1
    kept = stays.sum(1)
    last = torch.where(top_p < 1, torch.minimum(size, kept), kept)[:, None] - 1
    return ordered.gather(1, last)[:, 0], order.gather(1, last)[:, 0].int()

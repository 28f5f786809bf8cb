"""How many experts each layer needs, and router temperatures that make one mass mean that.

The layers differ: in some, half of the experts carry a hundredth of the error that they carry in
others. A router's temperature does not change its order, so it is free to state how many experts the
layer needs: after the calibration, one mass for all layers gives each layer its own count.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from torch import Tensor

_HALVINGS = 40


def allocate_experts(errors: Sequence[Sequence[float]], total: int, minimum: int) -> list[int]:
    """Experts of each layer, `total` together, by the largest fall of the error per expert.

    Args:
        errors: for each layer the error with 0, 1, ... experts; falling.
        total: experts of all layers together.
        minimum: experts of each layer at least.
    """
    counts = [minimum] * len(errors)
    gains = [(-_best_gain(one, minimum)[0], layer) for layer, one in enumerate(errors)]
    heapq.heapify(gains)
    left = total - sum(counts)
    while left > 0 and gains:
        _, layer = heapq.heappop(gains)
        _, width = _best_gain(errors[layer], counts[layer])
        step = min(width, left)
        counts[layer] += step
        left -= step
        if counts[layer] < len(errors[layer]) - 1:
            heapq.heappush(gains, (-_best_gain(errors[layer], counts[layer])[0], layer))
    return counts


def _best_gain(errors: Sequence[float], count: int) -> tuple[float, int]:
    """The largest fall per further expert, and for how many; so that a flat start hides no fall."""
    falls = [
        ((errors[count] - errors[after]) / (after - count), after - count)
        for after in range(count + 1, len(errors))
    ]
    return max(falls, key=lambda fall: (fall[0], -fall[1]))


def mean_count(logits: Tensor, mass: float, minimum: int) -> float:
    """Mean size of the smallest sets of experts whose scores reach the mass; logits [T, experts]."""
    scores = logits.softmax(-1).sort(dim=-1, descending=True).values
    counts = (scores.cumsum(-1) < mass).sum(-1) + 1
    return float(counts.clamp(minimum, logits.shape[1]).double().mean())


def temperature_factor(logits: Tensor, mass: float, minimum: int, count: float) -> float:
    """The factor on the logits with which the mass needs `count` experts in the mean."""
    low, high = -12.0, 12.0  # powers of two; a larger factor needs fewer experts
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if mean_count(logits * 2**middle, mass, minimum) > count:
            low = middle
        else:
            high = middle
    return float(2**high)


def calibrate(
    logits: Sequence[Tensor],
    errors: Sequence[Sequence[float]],
    mean: float,
    mass: float,
    minimum: int,
) -> tuple[list[int], list[float]]:
    """Experts and temperature factor of each layer, `mean` experts in the mean at the mass."""
    counts = allocate_experts(errors, round(mean * len(errors)), minimum)
    factors = [
        temperature_factor(one, mass, minimum, count)
        for one, count in zip(logits, counts, strict=True)
    ]
    return counts, factors

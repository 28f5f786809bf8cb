"""Mixture: the weighted median of the models, weighted by their recent loss.

Weights fall exponentially with a model's mean loss over a rolling window, relative to the best
model's (prediction with expert advice, Cesa-Bianchi & Lugosi 2006). The steepness grows with the
number of separate outcomes in the window, ``window / steps``. Ten minutes ahead a model that is
10 % worse has almost no weight; a day ahead, with 14 outcomes in 14 days, it has two thirds of the
best model's weight.

The median, not the mean, limits the effect of a model with a large error on an anomalous day. The
last value starts with three times the weight of the others, from half a season ahead on with twice:
where no model beats it, the mixture is mostly the last value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from r1_forecasting.arrays import BoolArray, FloatArray, IntArray
from r1_forecasting.models.protocol import Fitted
from r1_forecasting.selection.gate import LAST_VALUE
from r1_forecasting.series.series import Series

MIXTURE = "mixture"
WINDOW_SEASONS = 3.0
WINDOW_OUTCOMES = 14.0
"""Least length of the window, in outcomes that do not overlap."""
LAST_VALUE_WEIGHT = 3.0
LAST_VALUE_WEIGHT_FAR = 2.0
"""Weight from half a season ahead on."""
MIN_LOSSES = 20
MAX_EXCESS = 9.0
"""Cap of a model's excess loss, in multiples of the best model's loss."""


def prior(names: Sequence[str], steps: int, season: float) -> FloatArray:
    """Weights (models,) before any outcome is known."""
    last_value_weight = LAST_VALUE_WEIGHT if steps < season / 2 else LAST_VALUE_WEIGHT_FAR
    return np.array([last_value_weight if name == LAST_VALUE else 1.0 for name in names])


def rolling_weights(
    losses: FloatArray, origins: IntArray, steps: int, season: float, start: FloatArray
) -> FloatArray:
    """Weights (n, models) at each origin from the outcomes known there.

    ``losses`` (n, models) at ascending ``origins``, NaN where a model has no value or
    the outcome is missing; such an origin is ignored. The loss of row j is known from
    ``origins[j] + steps`` on. ``start`` (models,) are the weights before
    ``MIN_LOSSES`` losses are known and tilt those after. They sum to 1 over the models.
    """
    window = max(WINDOW_SEASONS * season, WINDOW_OUTCOMES * float(steps))
    known: BoolArray = ~np.asarray(np.isnan(losses).any(axis=1))
    total = np.cumsum(np.where(known[:, None], losses, 0.0), axis=0)
    total = np.concatenate([np.zeros_like(losses[:1]), total])
    count = np.concatenate([[0], np.cumsum(known)])
    last = np.searchsorted(origins + steps, origins, side="right")
    first = np.minimum(np.searchsorted(origins, origins - steps - window), last)
    outcomes = count[last] - count[first]
    mean = np.maximum(total[last] - total[first], 0.0) / np.maximum(outcomes, 1)[:, None]
    best = mean.min(axis=1, keepdims=True)
    cap = (1.0 + MAX_EXCESS) * best  # cut before the division, which a tiny best would overflow
    behind = np.where(
        best > 0, np.minimum(mean, cap) / np.where(best > 0, best, 1.0) - 1.0, mean > 0
    )
    steepness = np.sqrt(window / steps)
    factor = np.where((outcomes >= MIN_LOSSES)[:, None], np.exp(-steepness * behind), 1.0)
    weight = start[None, :] * factor
    normal: FloatArray = weight / weight.sum(axis=1, keepdims=True)
    return normal


def mixed(quantiles: FloatArray, weights: FloatArray) -> FloatArray:
    """Weighted median over the models: (n, models, levels) and (n, models) -> (n, levels).

    Each model lies in the middle of its weight, models with equal values in the middle of their
    total weight; linear in between. The weight of a model without a value goes to the others; NaN
    where none has a value.
    """
    known_values = ~np.isnan(quantiles)
    used = np.where(known_values, weights[:, :, None], 0.0)
    order = np.argsort(quantiles, axis=1)  # NaN last
    value = np.take_along_axis(quantiles, order, axis=1)
    share = np.take_along_axis(used, order, axis=1)
    total = share.sum(axis=1, keepdims=True)
    place = _places(value, share)
    right = np.argmax(place >= total / 2 * (1 - 1e-9), axis=1)[:, None]
    left = np.maximum(right - 1, 0)
    low, high = (np.take_along_axis(place, at, axis=1) for at in (left, right))
    below, above = (np.take_along_axis(value, at, axis=1) for at in (left, right))
    step = np.where(high > low, high - low, 1.0)
    part = np.where(high > low, np.clip((total / 2 - low) / step, 0.0, 1.0), 1.0)
    result: FloatArray = np.where(total > 0, below + (above - below) * part, np.nan)[:, 0]
    return result


def _places(value: FloatArray, share: FloatArray) -> FloatArray:
    """Middle of the weight at each of the ascending values (n, models, levels), equals as one."""
    last = np.cumsum(share, axis=1)
    first = last - share
    models = value.shape[1]
    for i in range(1, models):
        same = value[:, i] == value[:, i - 1]
        first[:, i] = np.where(same, first[:, i - 1], first[:, i])
    for i in range(models - 2, -1, -1):
        same = value[:, i] == value[:, i + 1]
        last[:, i] = np.where(same, last[:, i + 1], last[:, i])
    middle: FloatArray = (first + last) / 2
    return middle


def mix(
    raw: Mapping[str, FloatArray],
    actual: FloatArray,
    origins: IntArray,
    steps: int,
    season: float,
    levels: Sequence[float],
) -> tuple[FloatArray, dict[str, float]]:
    """The mixture's quantiles (n, levels) at each origin, and the current weights.

    ``raw`` (n, levels) of each model; ``actual`` (n,) outcomes, known ``steps`` later. Models
    are scored at the level nearest the median. A model without any value has no weight.
    """
    names = [name for name, rows in raw.items() if not np.isnan(rows).all()]
    if not names:
        return np.full((len(origins), len(levels)), np.nan), {}
    middle = int(np.argmin(np.abs(np.asarray(levels) - 0.5)))
    quantiles = np.stack([raw[name] for name in names], axis=1)
    short = actual[:, None] - quantiles[:, :, middle]
    losses = np.maximum(levels[middle] * short, (levels[middle] - 1.0) * short)
    weights = rolling_weights(losses, origins, steps, season, prior(names, steps, season))
    return mixed(quantiles, weights), dict(zip(names, weights[-1].tolist(), strict=True))


@dataclass(frozen=True, slots=True, eq=False)
class FittedMixture:
    """Members with their current weights (members,), which sum to 1."""

    members: tuple[Fitted, ...]
    weights: FloatArray
    trained_until: float
    name: str = MIXTURE

    def predict(
        self, series: Series, origins: IntArray, horizons: IntArray, levels: Sequence[float]
    ) -> FloatArray:
        quantiles = np.stack(
            [m.predict(series, origins, horizons, levels) for m in self.members], 2
        )
        flat = quantiles.reshape(-1, len(self.members), len(levels))
        result = mixed(flat, np.broadcast_to(self.weights, flat.shape[:2]))
        return result.reshape(len(origins), len(horizons), len(levels))

    def peak(
        self, series: Series, origins: IntArray, steps: int, levels: Sequence[float]
    ) -> FloatArray:
        quantiles = np.stack([m.peak(series, origins, steps, levels) for m in self.members], 1)
        return mixed(quantiles, np.broadcast_to(self.weights, quantiles.shape[:2]))


def mixture_of(fitted: Mapping[str, Fitted], weights: Mapping[str, float]) -> FittedMixture:
    """Build the mixture of the members with a weight; trained when the last of them was."""
    members = tuple(fitted[name] for name in weights)
    return FittedMixture(
        members,
        np.array(list(weights.values())),
        max((member.trained_until for member in members), default=-np.inf),
    )

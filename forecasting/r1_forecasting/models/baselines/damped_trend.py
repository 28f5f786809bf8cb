"""Smoothed level and damped trend.

The trend is the difference of two exponentially weighted means divided by the difference of their
ages; it continues with damping (Gardner & McKenzie 1985). Smoothing and damping are chosen from a
small grid by the error on the history at the requested horizon.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from r1_forecasting.arrays import FloatArray, IntArray
from r1_forecasting.models.baselines.last_value import MAX_FILL_STEPS
from r1_forecasting.models.protocol import Fitted
from r1_forecasting.models.target import Target
from r1_forecasting.series.series import Series
from r1_forecasting.series.shape import SeriesShape
from r1_forecasting.unavailable import ForecastUnavailable, UnavailableReason

ALPHAS = (0.7, 0.5, 0.3, 0.2, 0.12, 0.07)
DAMPINGS = (0.0, 0.7, 0.9)
SLOWER = 3.0
REACH = 100
MIN_OBSERVATIONS = 40


@dataclass(frozen=True, slots=True)
class FittedDampedTrend:
    """``alpha``: weight of the newest step in the level; ``damping`` 0: no trend."""

    alpha: float
    damping: float
    trained_until: float
    name: str = "damped-trend"

    def predict(
        self, series: Series, origins: IntArray, horizons: IntArray, levels: Sequence[float]
    ) -> FloatArray:
        center = self._ahead(series, origins, horizons)
        return np.repeat(center[:, :, None], len(levels), axis=2)

    def peak(
        self, series: Series, origins: IntArray, steps: int, levels: Sequence[float]
    ) -> FloatArray:
        center = self._ahead(series, origins, np.array([steps], dtype=np.int64))
        return np.repeat(center, len(levels), axis=1)

    def _ahead(self, series: Series, origins: IntArray, horizons: IntArray) -> FloatArray:
        fast = _weighted(series, origins, self.alpha)
        if self.damping == 0:
            return np.repeat(fast[:, None], len(horizons), axis=1)
        slow = _weighted(series, origins, self.alpha / SLOWER)
        age = 1 / self.alpha - 1
        slope = (fast - slow) / (SLOWER / self.alpha - 1 - age)
        carried = self.damping * (1 - self.damping**horizons) / (1 - self.damping)
        return np.maximum(fast[:, None] + slope[:, None] * (carried + age)[None, :], 0.0)


@dataclass(frozen=True, slots=True)
class DampedTrend:
    """Chooses among the grid on at most ``most_origins`` origins of the history."""

    max_origins: int = 3000
    name: str = "damped-trend"

    def fit(self, series: Series, shape: SeriesShape) -> Fitted | ForecastUnavailable:
        if series.observed < MIN_OBSERVATIONS:
            return ForecastUnavailable(
                UnavailableReason.TOO_LITTLE_HISTORY,
                f"{series.observed} observations, needs {MIN_OBSERVATIONS}",
            )
        target = Target(shape.horizon, peak=False)
        origins = np.unique(np.linspace(0, len(series) - 1, self.max_origins).astype(np.int64))
        actual = target.outcome(series, origins)
        best, least = FittedDampedTrend(ALPHAS[0], 0.0, series.end), np.inf
        for alpha in ALPHAS:
            for damping in DAMPINGS:
                candidate = FittedDampedTrend(alpha, damping, series.end)
                error = np.abs(target.quantiles(candidate, series, origins, (0.5,))[:, 0] - actual)
                known = error[~np.isnan(error)]
                if len(known) and float(known.mean()) < least:
                    best, least = candidate, float(known.mean())
        return best


def _weighted(series: Series, origins: IntArray, alpha: float) -> FloatArray:
    """Exponentially weighted mean of the observations in the last ``REACH`` steps (origins,).

    NaN without an observation in the last ``MAX_FILL_STEPS``.
    """
    total = np.zeros(len(origins))
    weight = np.zeros(len(origins))
    fresh = np.zeros(len(origins), dtype=np.bool_)
    for lag in range(REACH):
        index = origins - lag
        value = np.where(index >= 0, series.values[np.maximum(index, 0)], np.nan)
        observed = ~np.isnan(value)
        share = (1 - alpha) ** lag
        total += np.where(observed, share * value, 0.0)
        weight += np.where(observed, share, 0.0)
        if lag <= MAX_FILL_STEPS:
            fresh |= observed
    return np.where(fresh, total / np.maximum(weight, 1e-300), np.nan)

"""Empirical quantiles at the same phase of earlier seasons.

The peak over the lead time takes the maximum of the *same window* in each of the last seasons, so
a recurring ramp is forecast before it starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from r1_forecasting.arrays import FloatArray, IntArray
from r1_forecasting.models.protocol import Fitted
from r1_forecasting.series.series import Series
from r1_forecasting.series.shape import SeriesShape, too_short
from r1_forecasting.series.windows import largest, row_quantiles, seasonal
from r1_forecasting.unavailable import ForecastUnavailable


@dataclass(frozen=True, slots=True)
class FittedSeasonalNaive:
    """Empirical quantiles over the last ``seasons`` seasons of ``season`` steps."""

    season: float
    seasons: int
    name: str = "seasonal-naive"
    trained_until: float = -np.inf

    def predict(
        self, series: Series, origins: IntArray, horizons: IntArray, levels: Sequence[float]
    ) -> FloatArray:
        past = seasonal(series.values, origins, horizons, self.season, self.seasons)
        flat = row_quantiles(past.reshape(-1, self.seasons), levels)
        return flat.reshape(len(origins), len(horizons), len(levels))

    def peak(
        self, series: Series, origins: IntArray, steps: int, levels: Sequence[float]
    ) -> FloatArray:
        window = np.arange(1, steps + 1, dtype=np.int64)
        past = seasonal(series.values, origins, window, self.season, self.seasons)
        return row_quantiles(largest(past, axis=1), levels)


@dataclass(frozen=True, slots=True)
class SeasonalNaive:
    """Needs two seasons: one to repeat and one to score."""

    seasons: int = 5
    name: str = "seasonal-naive"

    def fit(self, series: Series, shape: SeriesShape) -> Fitted | ForecastUnavailable:
        short = too_short(len(series), shape, 2)
        if short is not None:
            return short
        return FittedSeasonalNaive(shape.season, self.seasons, self.name)

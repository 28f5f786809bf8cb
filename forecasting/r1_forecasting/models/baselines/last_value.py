"""Last observation as the forecast: the baseline of every other model.

On real LLM traffic other models beat it by a few per cent at most ten minutes ahead. Calibration by
its own past errors gives it a band with valid coverage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from r1_forecasting.arrays import FloatArray, IntArray
from r1_forecasting.models.protocol import Fitted
from r1_forecasting.series.series import Series
from r1_forecasting.series.shape import SeriesShape
from r1_forecasting.unavailable import ForecastUnavailable

MAX_FILL_STEPS = 10
"""Steps for which a gap is filled with the last value."""


@dataclass(frozen=True, slots=True)
class LastValue:
    """The last observation, at every horizon and every level."""

    name: str = "last-value"
    trained_until: float = -np.inf

    def fit(self, series: Series, shape: SeriesShape) -> Fitted | ForecastUnavailable:
        return self

    def predict(
        self, series: Series, origins: IntArray, horizons: IntArray, levels: Sequence[float]
    ) -> FloatArray:
        now = series.forward_filled(MAX_FILL_STEPS)[origins]
        return np.broadcast_to(
            now[:, None, None], (len(origins), len(horizons), len(levels))
        ).copy()

    def peak(
        self, series: Series, origins: IntArray, steps: int, levels: Sequence[float]
    ) -> FloatArray:
        now = series.forward_filled(MAX_FILL_STEPS)[origins]
        return np.broadcast_to(now[:, None], (len(origins), len(levels))).copy()

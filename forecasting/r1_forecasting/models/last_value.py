"""Tomorrow is like now: the forecast that every other one has to beat.

On real LLM traffic ten minutes ahead it is beaten by a few per cent at most; calibrated by
its own past errors it is an honest band.
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
"""A last value older than this many steps is no value any more."""


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

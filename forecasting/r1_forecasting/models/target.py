"""Forecast target: the value some steps ahead, or the maximum over these steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from r1_forecasting.arrays import FloatArray, IntArray
from r1_forecasting.models.protocol import Fitted
from r1_forecasting.series.series import Series
from r1_forecasting.series.windows import future_peak


@dataclass(frozen=True, slots=True)
class Target:
    """The value ``steps`` after an origin, or with ``peak`` the maximum over those steps.

    The outcome of both is known ``steps`` after the origin.
    """

    steps: int
    peak: bool

    def quantiles(
        self, model: Fitted, series: Series, origins: IntArray, levels: Sequence[float]
    ) -> FloatArray:
        """Quantiles (origins, levels) of a model; NaN where it has none."""
        if self.peak:
            return model.peak(series, origins, self.steps, levels)
        return model.predict(series, origins, np.array([self.steps]), levels)[:, 0]

    def outcome(self, series: Series, origins: IntArray) -> FloatArray:
        """Observed outcome (origins,); NaN in a gap and past the end."""
        if self.peak:
            return future_peak(series.values, origins, self.steps)
        at = origins + self.steps
        inside = at < len(series)
        return np.where(inside, series.values[np.where(inside, at, 0)], np.nan)

"""The interface of a forecasting model: `Forecaster` trains, `Fitted` predicts.

``fit`` is slow and may import torch or Prophet. Its result holds numbers only, can be pickled,
and predicts in milliseconds with numpy alone. A fitted model predicts *at origins*: origin ``o``
is the position of the last observation that the model may read. The backtest and the live
service call the same method, with many origins or with one, so the scored object is the one that
forecasts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from r1_forecasting.arrays import FloatArray, IntArray
from r1_forecasting.series.series import Series
from r1_forecasting.series.shape import SeriesShape
from r1_forecasting.unavailable import ForecastUnavailable


class Fitted(Protocol):
    """A trained model: plain numbers, picklable, no I/O, no torch."""

    @property
    def name(self) -> str: ...

    @property
    def trained_until(self) -> float:
        """Time (s) of the last observation used in training; -inf without training.

        Predictions at origins up to this time are in-sample and are never scored.
        """
        ...

    def predict(
        self, series: Series, origins: IntArray, horizons: IntArray, levels: Sequence[float]
    ) -> FloatArray:
        """Quantiles of demand ``horizons`` steps after each origin.

        Shape (origins, horizons, levels), in the unit of the series. NaN where the model has no
        value (a gap, no earlier season). Reads nothing after the origin.
        """
        ...

    def peak(
        self, series: Series, origins: IntArray, steps: int, levels: Sequence[float]
    ) -> FloatArray:
        """Quantiles of the maximum over the next ``steps``; shape (origins, levels)."""
        ...


class Forecaster(Protocol):
    """A model before training."""

    @property
    def name(self) -> str: ...

    def fit(self, series: Series, shape: SeriesShape) -> Fitted | ForecastUnavailable:
        """Train; too little or unusable history returns `ForecastUnavailable`, not an error."""
        ...

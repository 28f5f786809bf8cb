"""Prophet: a trend and a smooth season, for longer horizons.

Prophet's seasons are days, so time is scaled until one season of the request is one day. Prophet is
fitted to log1p of demand (in hundredths of its mean, which makes the logarithm independent of the
unit). The curve is then scaled to the current level: without these two steps its error is 80 %
above that of the last value, with them it is below. A weekly season is fitted only where it is
requested and the history holds fourteen seasons. The fitted object is the predicted curve.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from r1_forecasting.arrays import FloatArray, IntArray
from r1_forecasting.models.baselines.last_value import MAX_FILL_STEPS
from r1_forecasting.models.protocol import Fitted
from r1_forecasting.series.series import Series
from r1_forecasting.series.shape import SeriesShape
from r1_forecasting.series.windows import average
from r1_forecasting.unavailable import ForecastUnavailable, UnavailableReason

SEASONS_AHEAD = 6
LEVEL_STEPS = 5
DAY_SECONDS = 86_400


@dataclass(frozen=True, slots=True, eq=False)
class FittedProphet:
    """Predicted demand at ``start + i * step``, for the history and some seasons beyond."""

    start: float
    step: float
    curve: FloatArray
    trained_until: float
    name: str = "prophet"

    def predict(
        self, series: Series, origins: IntArray, horizons: IntArray, levels: Sequence[float]
    ) -> FloatArray:
        center = self._ahead(series, origins, horizons)
        return np.repeat(center[:, :, None], len(levels), axis=2)

    def peak(
        self, series: Series, origins: IntArray, steps: int, levels: Sequence[float]
    ) -> FloatArray:
        window = np.arange(1, steps + 1, dtype=np.int64)
        center = self._ahead(series, origins, window).max(axis=1)
        return np.repeat(center[:, None], len(levels), axis=1)

    def _ahead(self, series: Series, origins: IntArray, horizons: IntArray) -> FloatArray:
        """The curve after each origin, times (recent demand / recent curve)."""
        filled = series.forward_filled(MAX_FILL_STEPS)
        back = origins[:, None] - np.arange(LEVEL_STEPS)[None, :]
        recent = np.where(back >= 0, filled[np.maximum(back, 0)], np.nan)
        predicted = self._at(series, back)
        both = ~np.isnan(recent) & ~np.isnan(predicted)
        level = average(np.where(both, recent, np.nan), 1) / np.maximum(
            average(np.where(both, predicted, np.nan), 1), 1e-12
        )
        ahead = self._at(series, origins[:, None] + horizons[None, :])
        scaled: FloatArray = ahead * np.clip(level, 0.1, 10.0)[:, None]
        return scaled

    def _at(self, series: Series, index: IntArray) -> FloatArray:
        place = index + round((series.start - self.start) / self.step)
        inside = (place >= 0) & (place < len(self.curve))
        return np.where(inside, self.curve[np.clip(place, 0, len(self.curve) - 1)], np.nan)


@dataclass(frozen=True, slots=True)
class ProphetForecaster:
    """Fits at most ``most_points`` block means of the newest history."""

    max_points: int = 2000
    name: str = "prophet"

    def fit(self, series: Series, shape: SeriesShape) -> Fitted | ForecastUnavailable:
        seasons = len(series) / shape.season
        if seasons < 2 or series.observed < 24:
            return ForecastUnavailable(
                UnavailableReason.TOO_LITTLE_HISTORY,
                f"{seasons:.1f} seasons and {series.observed} observations, needs 2 and 24",
            )
        observed = ~np.isnan(series.values)
        unit = float(series.values[observed].mean()) / 100
        if unit <= 0:
            return ForecastUnavailable(
                UnavailableReason.NO_DATA, "demand is 0 in the whole history"
            )
        for noisy in ("prophet", "prophet.plot", "cmdstanpy"):
            logging.getLogger(noisy).setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Prophet's own use of pandas
            curve = self._draw(series, shape, unit)
        if not np.isfinite(curve).all():
            return ForecastUnavailable(UnavailableReason.FAILED, "Prophet's curve is not finite")
        return FittedProphet(series.start, series.step, curve, series.end)

    def _draw(self, series: Series, shape: SeriesShape, unit: float) -> FloatArray:
        """Demand on the grid from the series' start to ``SEASONS_AHEAD`` past its end."""
        import pandas as pd
        from prophet import Prophet

        seasons = len(series) / shape.season
        length = len(series) + round(SEASONS_AHEAD * shape.season)
        day = (series.start / series.step + np.arange(length)) / shape.season
        # Prophet's time: any start works, as long as one season is one of its days.
        clock = pd.to_datetime(
            np.rint((day - np.floor(day[0]) + 10_000) * DAY_SECONDS * 1e3), unit="ms"
        )
        stride = max(1, -(-len(series) // self.max_points))
        chosen = np.arange(len(series) - 1, stride - 2, -stride)[::-1]
        smooth = average(
            np.stack([np.roll(series.values, shift) for shift in range(stride)], axis=1), 1
        )[chosen]
        points_per_season = shape.season / stride
        model = Prophet(
            growth="linear",
            n_changepoints=min(10, max(1, int(seasons))),
            changepoint_range=0.9,
            daily_seasonality=int(np.clip(points_per_season // 3, 1, 12)),
            weekly_seasonality=bool(shape.weekly and seasons >= 14),
            yearly_seasonality=False,
            uncertainty_samples=0,
        )
        frame = pd.DataFrame({"ds": clock[chosen], "y": np.log1p(smooth / unit)}).dropna()
        model.fit(frame)
        predicted = model.predict(pd.DataFrame({"ds": clock}))["yhat"].to_numpy(dtype=np.float64)
        return np.asarray(unit * np.expm1(np.clip(predicted, 0.0, 30.0)), dtype=np.float64)

"""The present, moved along the seasonal profile by a ridge regression.

The regression on the root scale has three terms: the rise of the profile up to the target, the
distance of the present from the profile, and the distance of the last steps from the present. Its
special cases are the last value (all weights 0), the seasonal naive and "profile times level".
Ridge keeps it near the last value where the season explains little, as on daily LLM traffic. Fitted
in milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from r1_forecasting.arrays import FloatArray, IntArray
from r1_forecasting.calibration.root_scale import RootScale
from r1_forecasting.models.baselines.last_value import MAX_FILL_STEPS
from r1_forecasting.models.protocol import Fitted
from r1_forecasting.series.series import Series
from r1_forecasting.series.shape import SeriesShape, too_short
from r1_forecasting.series.windows import average, future, future_peak, knots, largest, seasonal
from r1_forecasting.unavailable import ForecastUnavailable, UnavailableReason

TERMS = 4
RIDGE = 0.05
SHORT = 5
SMOOTHING = 2


def profile_features(
    series: Series,
    scale: RootScale,
    origins: IntArray,
    steps: IntArray,
    season: float,
    seasons: int,
    *,
    peak: bool,
) -> tuple[FloatArray, FloatArray]:
    """Root-scale present (origins,) and features (origins, steps, TERMS) of the regression.

    With ``peak`` the profile ahead is the mean of the window maxima, else of the values.
    """
    filled = series.forward_filled(MAX_FILL_STEPS)
    now = scale.to(filled[origins])
    back = origins[:, None] - np.arange(SHORT)[None, :]
    short = average(scale.to(np.where(back >= 0, filled[np.maximum(back, 0)], np.nan)), axis=1)
    around = np.arange(-SMOOTHING, SMOOTHING + 1, dtype=np.int64)
    here = average(
        average(scale.to(seasonal(filled, origins, around, season, seasons)), axis=2), axis=1
    )
    columns = []
    for k in steps:
        ahead = np.arange(1, k + 1) if peak else np.clip(np.arange(k - 1, k + 2), 1, None)
        past = scale.to(seasonal(series.values, origins, ahead.astype(np.int64), season, seasons))
        there = average(largest(past, axis=1) if peak else average(past, axis=1), axis=1)
        columns.append(np.stack([there - here, here - now, short - now], axis=1))
    slopes = np.stack(columns, axis=1)
    return now, np.concatenate([slopes, np.ones((*slopes.shape[:2], 1))], axis=2)


@dataclass(frozen=True, slots=True, eq=False)
class FittedSeasonalLevel:
    """Weights (knots, TERMS) for points, to the horizon, and for peaks, to the lead."""

    scale: RootScale
    season: float
    seasons: int
    point_knots: IntArray
    peak_knots: IntArray
    point_weights: FloatArray
    peak_weights: FloatArray
    trained_until: float
    name: str = "seasonal-level"

    def predict(
        self, series: Series, origins: IntArray, horizons: IntArray, levels: Sequence[float]
    ) -> FloatArray:
        weights = _along(self.point_knots, self.point_weights, horizons)
        center = self._center(series, origins, horizons, weights, peak=False)
        return np.repeat(center[:, :, None], len(levels), axis=2)

    def peak(
        self, series: Series, origins: IntArray, steps: int, levels: Sequence[float]
    ) -> FloatArray:
        window = np.array([steps], dtype=np.int64)
        weights = _along(self.peak_knots, self.peak_weights, window)
        center = self._center(series, origins, window, weights, peak=True)
        return np.repeat(center, len(levels), axis=1)

    def _center(
        self, series: Series, origins: IntArray, steps: IntArray, weights: FloatArray, *, peak: bool
    ) -> FloatArray:
        now, features = profile_features(
            series, self.scale, origins, steps, self.season, self.seasons, peak=peak
        )
        return self.scale.back(now[:, None] + np.einsum("oht,ht->oh", features, weights))


@dataclass(frozen=True, slots=True)
class SeasonalLevel:
    """Ridge regression over at most ``max_origins`` origins of the history."""

    seasons: int = 5
    max_origins: int = 1500
    name: str = "seasonal-level"

    def fit(self, series: Series, shape: SeriesShape) -> Fitted | ForecastUnavailable:
        short = too_short(len(series), shape, 3)
        if short is not None:
            return short
        first = int(np.ceil(shape.season))
        origins = np.unique(np.linspace(first, len(series) - 2, self.max_origins).astype(np.int64))
        scale = RootScale.of(series)
        point_knots, peak_knots = knots(shape.horizon), knots(shape.lead)
        weights = []
        for peak, steps in ((False, point_knots), (True, peak_knots)):
            now, features = profile_features(
                series, scale, origins, steps, shape.season, self.seasons, peak=peak
            )
            rows: list[FloatArray | None] = []
            for i, k in enumerate(steps.tolist()):
                actual = (
                    future_peak(series.values, origins, k)
                    if peak
                    else future(series.values, origins, k)[:, -1]
                )
                fitted = _ridge(features[:, i], scale.to(actual) - now)
                rows.append(rows[-1] if fitted is None and rows else fitted)
            usable = [row for row in rows if row is not None]
            if len(usable) < len(rows):
                return ForecastUnavailable(
                    UnavailableReason.TOO_LITTLE_HISTORY,
                    "too few stretches without gaps to fit weights on",
                )
            weights.append(np.stack(usable))
        return FittedSeasonalLevel(
            scale,
            shape.season,
            self.seasons,
            point_knots,
            peak_knots,
            weights[0],
            weights[1],
            series.end,
        )


def _along(grid: IntArray, weights: FloatArray, steps: IntArray) -> FloatArray:
    """Weights (steps, TERMS) between those at the knots, along the logarithm."""
    return np.stack(
        [np.interp(np.log(steps), np.log(grid), weights[:, t]) for t in range(TERMS)], axis=1
    )


def _ridge(features: FloatArray, target: FloatArray) -> FloatArray | None:
    """Weights shrunk towards zero, that is towards the last value; None without data."""
    usable = ~np.isnan(target) & ~np.isnan(features).any(axis=1)
    if int(usable.sum()) < 5 * TERMS:
        return None
    x, y = features[usable], target[usable]
    penalty = RIDGE * np.diag([float(np.mean(x[:, t] ** 2)) + 1e-9 for t in range(TERMS)])
    solved = np.linalg.solve(x.T @ x / len(x) + penalty, x.T @ y / len(x))
    return solved.astype(np.float64)

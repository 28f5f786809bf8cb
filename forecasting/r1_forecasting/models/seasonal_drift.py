"""The same phase in earlier seasons, plus half of the change in level since.

A season or more ahead the present holds little information on the phase, but a trend in the level
usually continues. Each earlier value is moved by half of the difference between the mean of the
season that ended then and the mean of the season that ends now, on the root scale. Half, because a
level that has just moved returns halfway about as often as it stays. The forecast is the median of
the moved values. Nothing is trained.

An anomalous day would be repeated and would move the level. So values are clipped: a value whose
distance from the rule's own forecast of a season before exceeds 90 % of the past errors is moved to
that distance. A lasting change is followed with time, because the errors grow with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from r1_forecasting.arrays import FloatArray, IntArray
from r1_forecasting.calibration.root_scale import RootScale
from r1_forecasting.models.boosted_trees.gbdt_inputs import PrefixSums
from r1_forecasting.models.protocol import Fitted
from r1_forecasting.series.series import Series
from r1_forecasting.series.shape import SeriesShape, too_short
from r1_forecasting.series.windows import largest, row_quantiles, seasonal
from r1_forecasting.unavailable import ForecastUnavailable

RECENT = (1, 2, 3, 4, 5, 6, 7)
A_WEEK_AGO = (7,)
SHARE = 0.5
CLIP_QUANTILE = 0.9
"""Quantile of past errors at which values are clipped."""
ERROR_SEASONS = 28
SMOOTHING_PER_SEASON = 96
"""Values are means over a 96th of the season to both sides (15 min of a day)."""


@dataclass(frozen=True, slots=True)
class FittedSeasonalDrift:
    """``seasons`` are counted back from the target; 1 is the first that lies in the past."""

    scale: RootScale
    season: float
    seasons: tuple[int, ...]
    name: str
    trained_until: float = -np.inf

    def predict(
        self, series: Series, origins: IntArray, horizons: IntArray, levels: Sequence[float]
    ) -> FloatArray:
        forecast = self.scale.back(self._values(self._clipped(series), origins, horizons))
        return np.repeat(forecast[:, :, None], len(levels), axis=2)

    def peak(
        self, series: Series, origins: IntArray, steps: int, levels: Sequence[float]
    ) -> FloatArray:
        ahead = np.arange(1, steps + 1, dtype=np.int64)
        series = self._clipped(series)
        earlier = seasonal(series.values, origins, ahead, self.season, max(self.seasons))
        columns = [0, *(number - 1 for number in self.seasons)]
        tops = self.scale.to(largest(earlier[:, :, columns], axis=1))
        past = PrefixSums.of(series, self.scale, self.season)
        backs = self._backs(np.array([steps], dtype=np.int64))
        forecast = self.scale.back(self._median(past, origins[:, None], backs, tops[:, None, :]))
        return np.repeat(forecast, len(levels), axis=1)

    def _clipped(self, series: Series) -> Series:
        """The series with anomalous values clipped; a value depends on nothing after it."""
        season = max(round(self.season), 1)
        count = len(series)
        if count <= 2 * season:
            return series
        roots = self.scale.to(series.values)
        origins = np.arange(count - season)
        forecast = np.full(count, np.nan)
        forecast[season:] = self._values(series, origins, np.array([season]))[:, 0]
        error = np.abs(roots - forecast)
        limit = np.full(count, np.nan)
        for first in range(2 * season, count, season):
            past_errors = error[max(first - ERROR_SEASONS * season, 0) : first]
            past_errors = past_errors[~np.isnan(past_errors)]
            if 2 * len(past_errors) >= season:
                limit[first : first + season] = np.quantile(past_errors, CLIP_QUANTILE)
        known = ~(np.isnan(limit) | np.isnan(error))
        within = np.clip(roots, forecast - limit, forecast + limit)
        values = np.where(known, self.scale.back(within), series.values)
        return Series(series.start, series.step, values)

    def _values(self, series: Series, origins: IntArray, horizons: IntArray) -> FloatArray:
        """Roots (origins, horizons) by the rule, from the given series."""
        past = PrefixSums.of(series, self.scale, self.season)
        around = round(self.season / SMOOTHING_PER_SEASON)
        at = origins[:, None]
        backs = self._backs(horizons)
        columns = []
        for back in backs.T:
            center = at + horizons - back
            columns.append(past.mean(center - around, np.minimum(center + around, at)))
        return self._median(past, at, backs, np.stack(columns, axis=2))

    def _backs(self, horizons: IntArray) -> IntArray:
        """Lag in steps of the nearest season and of each of ``seasons``: (horizons, 1 + seasons)."""
        first = np.maximum(np.ceil(horizons / self.season - 1e-9), 1)
        number = np.array([1, *self.seasons])
        backs: IntArray = np.rint((first[:, None] + number - 1) * self.season).astype(np.int64)
        return backs

    def _median(
        self, past: PrefixSums, origins: IntArray, backs: IntArray, earlier: FloatArray
    ) -> FloatArray:
        """Median (origins, horizons) of the moved roots of ``seasons``.

        ``earlier`` (origins, horizons, 1 + seasons) starts with the nearest season, which is used
        unchanged where none of ``seasons`` is known.
        """
        day = max(round(self.season), 1)
        level = past.block(origins, day)
        moved = [
            earlier[:, :, i] + SHARE * (level - past.block(origins - backs[:, i], day))
            for i in range(1, backs.shape[1])
        ]
        rows = np.stack(moved, axis=2).reshape(-1, len(moved))
        middle = row_quantiles(rows, (0.5,)).reshape(earlier.shape[:2])
        return np.where(np.isnan(middle), earlier[:, :, 0], middle)


@dataclass(frozen=True, slots=True)
class SeasonalDrift:
    """Needs two seasons; uses up to the last seven."""

    seasons: tuple[int, ...] = RECENT
    name: str = "seasonal-drift"

    def fit(self, series: Series, shape: SeriesShape) -> Fitted | ForecastUnavailable:
        short = too_short(len(series), shape, 2)
        if short is not None:
            return short
        return FittedSeasonalDrift(RootScale.of(series), shape.season, self.seasons, self.name)

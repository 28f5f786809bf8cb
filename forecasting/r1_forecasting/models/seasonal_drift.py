"""The same time in earlier seasons, moved by how the level has moved since.

A season or more ahead the present says little about the phase, but a service that grows or
falls goes on doing so. Each earlier season's value is moved by a share of the change between the
mean of the season that ended then and of the one that ends now, all on the root scale; what is
said is their median. Half of the change is taken: a level that has just moved comes halfway back
as often as not. Nothing is trained.

An odd day would be repeated and would move the level. So the past is believed only as far as the
rule itself had it coming: a value farther from what was said a season before than nine in ten of
the errors until then counts as one that is just so far away. A lasting change is believed by and
by, since errors grow with it and the days that are repeated move on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from r1_forecasting.arrays import FloatArray, IntArray
from r1_forecasting.calibration.root_scale import RootScale
from r1_forecasting.models.gbdt_inputs import PrefixSums
from r1_forecasting.models.protocol import Fitted
from r1_forecasting.series.series import Series
from r1_forecasting.series.shape import SeriesShape, too_short
from r1_forecasting.series.windows import largest, row_quantiles, seasonal
from r1_forecasting.unavailable import ForecastUnavailable

RECENT = (1, 2, 3, 4, 5, 6, 7)
A_WEEK_AGO = (7,)
SHARE = 0.5
BELIEVED = 0.9
"""The share of past errors that are believed whole; farther ones count as far as these."""
JUDGED_SEASONS = 28
SMOOTHING_PER_SEASON = 96
"""Values are means over a season's 96th part to both sides (a quarter of an hour of a day)."""


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
        said = self.scale.back(self._values(self._believed(series), origins, horizons))
        return np.repeat(said[:, :, None], len(levels), axis=2)

    def peak(
        self, series: Series, origins: IntArray, steps: int, levels: Sequence[float]
    ) -> FloatArray:
        ahead = np.arange(1, steps + 1, dtype=np.int64)
        series = self._believed(series)
        earlier = seasonal(series.values, origins, ahead, self.season, max(self.seasons))
        asked = [0, *(number - 1 for number in self.seasons)]
        tops = self.scale.to(largest(earlier[:, :, asked], axis=1))
        past = PrefixSums.of(series, self.scale, self.season)
        backs = self._backs(np.array([steps], dtype=np.int64))
        said = self.scale.back(self._median(past, origins[:, None], backs, tops[:, None, :]))
        return np.repeat(said, len(levels), axis=1)

    def _believed(self, series: Series) -> Series:
        """The series with values that nobody could have had coming moved to where they could.

        What stands at a position depends on nothing after it.
        """
        season = max(round(self.season), 1)
        count = len(series)
        if count <= 2 * season:
            return series
        roots = self.scale.to(series.values)
        origins = np.arange(count - season)
        said = np.full(count, np.nan)
        said[season:] = self._values(series, origins, np.array([season]))[:, 0]
        error = np.abs(roots - said)
        limit = np.full(count, np.nan)
        for first in range(2 * season, count, season):
            seen = error[max(first - JUDGED_SEASONS * season, 0) : first]
            seen = seen[~np.isnan(seen)]
            if 2 * len(seen) >= season:
                limit[first : first + season] = np.quantile(seen, BELIEVED)
        judged = ~(np.isnan(limit) | np.isnan(error))
        within = np.clip(roots, said - limit, said + limit)
        values = np.where(judged, self.scale.back(within), series.values)
        return Series(series.start, series.step, values)

    def _values(self, series: Series, origins: IntArray, horizons: IntArray) -> FloatArray:
        """Roots (origins, horizons) by the rule, from the series as it is."""
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
        """How far back, in steps, the nearest season lies and each of ``seasons`` (horizons,
        1 + seasons)."""
        first = np.maximum(np.ceil(horizons / self.season - 1e-9), 1)
        number = np.array([1, *self.seasons])
        backs: IntArray = np.rint((first[:, None] + number - 1) * self.season).astype(np.int64)
        return backs

    def _median(
        self, past: PrefixSums, origins: IntArray, backs: IntArray, earlier: FloatArray
    ) -> FloatArray:
        """Roots (origins, horizons) from those of the nearest season and of ``seasons``,
        (origins, horizons, 1 + seasons): the median of these moved, or the nearest as it was
        where none is known."""
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
    """Needs two seasons, as what repeats seasons does; the last seven are looked at."""

    seasons: tuple[int, ...] = RECENT
    name: str = "seasonal-drift"

    def fit(self, series: Series, shape: SeriesShape) -> Fitted | ForecastUnavailable:
        short = too_short(len(series), shape, 2)
        if short is not None:
            return short
        return FittedSeasonalDrift(RootScale.of(series), shape.season, self.seasons, self.name)

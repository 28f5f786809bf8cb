"""Features of the boosted trees at an origin: last steps, their means, earlier seasons.

All are on the root scale. All but the level and the phase are relative to the present, so that
trained trees still fit a service whose demand has doubled since.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from r1_forecasting.arrays import FloatArray, IntArray
from r1_forecasting.calibration.root_scale import RootScale
from r1_forecasting.models.baselines.last_value import MAX_FILL_STEPS
from r1_forecasting.series.series import Series
from r1_forecasting.series.windows import average

LAGS = (1, 2, 3, 4, 5, 7, 9, 12, 15, 20, 30, 45, 60)
BLOCKS = (2, 3, 5, 8, 15, 30, 60, 120, 240, 480)
SLOPES = (5, 15, 60)
SEASONS = 7
ROUGH = (10, 60)


@dataclass(frozen=True, slots=True, eq=False)
class PrefixSums:
    """Prefix sums of a series, for means over any range."""

    roots: FloatArray  # gaps of up to MAX_FILL_STEPS filled
    total: FloatArray
    count: IntArray
    path: FloatArray  # sum of absolute changes
    phase: float  # of position 0, in steps since the Unix epoch
    season: float

    @classmethod
    def of(cls, series: Series, scale: RootScale, season: float) -> PrefixSums:
        roots = scale.to(series.values)
        observed = ~np.isnan(roots)
        filled = scale.to(series.forward_filled(MAX_FILL_STEPS))
        change = np.abs(np.nan_to_num(np.diff(filled, prepend=np.nan)))
        return cls(
            filled,
            np.concatenate([[0.0], np.cumsum(np.where(observed, roots, 0.0))]),
            np.concatenate([[0], np.cumsum(observed)]),
            np.concatenate([[0.0], np.cumsum(change)]),
            series.start / series.step,
            season,
        )

    def at(self, index: IntArray) -> FloatArray:
        """The forward-filled value at each position; NaN before the start."""
        return np.where(index >= 0, self.roots[np.maximum(index, 0)], np.nan)

    def mean(self, first: IntArray, last: IntArray) -> FloatArray:
        """Mean over positions ``first`` to ``last``; NaN without observations or before 0."""
        low = np.clip(first, 0, len(self.roots))
        high = np.clip(last + 1, low, len(self.roots))
        count = self.count[high] - self.count[low]
        total = self.total[high] - self.total[low]
        known = (count > 0) & (last >= 0)
        return np.where(known, total / np.maximum(count, 1), np.nan)

    def block(self, origins: IntArray, steps: int) -> FloatArray:
        """Mean of the last ``steps``; NaN where less than half of them exist."""
        mean = self.mean(origins - steps + 1, origins)
        return np.where(2 * (origins + 1) >= steps, mean, np.nan)


def build_features(
    past: PrefixSums, origins: IntArray, steps: int
) -> tuple[FloatArray, FloatArray]:
    """Present (n,) on the root scale and features (n, columns) for ``steps`` ahead.

    NaN marks unknown values. Nothing after an origin is read.
    """
    season = past.season
    day = max(round(season), 1)
    now = past.at(origins)
    columns = [past.at(origins - lag) - now for lag in LAGS]
    blocks = [k for k in BLOCKS if k < day] + [day]
    columns += [past.block(origins, k) - now for k in blocks]
    columns += [past.block(origins, k) - past.block(origins - k, k) for k in SLOPES if 2 * k < day]
    columns += _seasons(past, origins, steps, now)
    columns.append(past.block(origins, day) - past.block(origins - day, day))
    for k in (max(day // 24, 1), max(day // 6, 1)):
        recent = past.block(origins, k)
        columns.append(recent - past.block(origins - day, k))
        columns.append(recent - past.block(origins - 7 * day, k))
    columns.append(now)
    for k in ROUGH:
        first = np.maximum(origins - k + 1, 0)
        columns.append((past.path[origins + 1] - past.path[first]) / k)
    clock: FloatArray = np.asarray((past.phase + origins + steps) / season, dtype=np.float64)
    phase: FloatArray = clock % 1.0
    weekday: FloatArray = np.floor(clock) % 7
    columns += [np.sin(2 * np.pi * phase), np.cos(2 * np.pi * phase), phase, weekday]
    return now, np.stack(columns, axis=1)


def _seasons(past: PrefixSums, origins: IntArray, steps: int, now: FloatArray) -> list[FloatArray]:
    """Earlier seasons at the phase of the target, and their change up to that phase."""
    season = past.season
    ahead = max(min(steps // 4, round(season / 48)), 1 if season >= 48 else 0)
    around = max(ahead, round(season / 144))
    first = int(np.ceil(steps / season - 1e-9))
    there, moved = [], []
    for k in range(SEASONS):
        back = round((first + k) * season)
        center = origins + steps - back
        value = past.mean(center - ahead, np.minimum(center + ahead, origins))
        middle = origins - round((1 + k) * season)
        here = past.mean(middle - around, middle + around)
        there.append(value)
        moved.append(value - here)
    columns = []
    for k in (0, 1, 6):
        columns += [there[k] - now, moved[k]]
    places, moves = np.stack(there, axis=1), np.stack(moved, axis=1)
    columns += [average(places[:, :5], 1) - now, average(moves[:, :5], 1), average(places, 1) - now]
    observed = ~np.isnan(places).all(axis=1)
    top = np.where(np.isnan(places), -np.inf, places).max(axis=1)
    low = np.where(np.isnan(places), np.inf, places).min(axis=1)
    columns += [np.where(observed, top, np.nan) - now, np.where(observed, low, np.nan) - now]
    return columns

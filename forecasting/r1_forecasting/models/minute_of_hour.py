"""Bursts at a minute of the hour: the present, moved as it moved there in the last hours.

Load has clocks of its own: jobs on the half-hour start, hold for some days and end. A model whose
season is a day sees them a day late, one that was trained last week not at all. This one has a
memory of hours. How demand moved from this minute on in each of the last six hours is averaged,
and as much of it is believed as a regression through the origin over the last twelve hours says
(on the root scale, between nothing and all of it): where no clock strikes it is the last value.

An hour is the 24th part of a season, whatever the season is. Nothing is trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from r1_forecasting.arrays import FloatArray, IntArray
from r1_forecasting.calibration.root_scale import RootScale
from r1_forecasting.models.last_value import MAX_FILL_STEPS
from r1_forecasting.models.protocol import Fitted
from r1_forecasting.series.series import Series
from r1_forecasting.series.shape import SeriesShape, too_short
from r1_forecasting.series.windows import average
from r1_forecasting.unavailable import ForecastUnavailable, UnavailableReason

HOURS_PER_SEASON = 24
HOURS = 6
"""Whose moves are averaged; fewer than half of them known say nothing."""
MEMORY_HOURS = 12
"""Over which is found how much of that mean came true."""
FEWEST_STEPS = 4
"""An hour in fewer steps has no minutes to tell apart."""


@dataclass(frozen=True, slots=True)
class FittedMinuteOfHour:
    """``hour`` in steps."""

    scale: RootScale
    hour: float
    name: str = "minute-of-hour"
    trained_until: float = -np.inf

    def predict(
        self, series: Series, origins: IntArray, horizons: IntArray, levels: Sequence[float]
    ) -> FloatArray:
        said = self._moved(series, origins, horizons, peak=False)
        return np.repeat(said[:, :, None], len(levels), axis=2)

    def peak(
        self, series: Series, origins: IntArray, steps: int, levels: Sequence[float]
    ) -> FloatArray:
        said = self._moved(series, origins, np.array([steps], dtype=np.int64), peak=True)
        return np.repeat(said, len(levels), axis=1)

    def _moved(
        self, series: Series, origins: IntArray, horizons: IntArray, *, peak: bool
    ) -> FloatArray:
        """Demand (origins, horizons) so many steps ahead, or its maximum until then.

        Farther ahead than an hour it is the last value: there the hour says no more than a day.
        """
        near = horizons[horizons <= self.hour]
        reach = MAX_FILL_STEPS
        if len(near) > 0:
            reach += round(HOURS * self.hour) + round(MEMORY_HOURS * self.hour) + int(near.max())
        first = max(int(origins.min(initial=len(series))) - reach, 0)
        until = int(origins.max(initial=-1)) + 1
        part = Series(series.start, series.step, series.values[first:until])
        now = self.scale.to(part.forward_filled(MAX_FILL_STEPS))
        roots = self.scale.to(part.values)
        at = origins - first
        columns = []
        for steps in horizons.tolist():
            said = now
            if steps <= self.hour:
                move = _ahead(roots, steps, peak=peak) - now
                echo = self._echo(move, steps)
                said = now + self._share(move, echo, steps) * echo
            columns.append(said[at])
        return self.scale.back(np.stack(columns, axis=1))

    def _echo(self, move: FloatArray, steps: int) -> FloatArray:
        """Mean move (n,) from this minute on in the last hours; 0 where too few are known."""
        at = np.arange(len(move))
        columns = []
        for number in range(1, HOURS + 1):
            # A horizon that is no shorter than an hour is known from the hour before that on.
            back = at - max(round(number * self.hour), steps)
            columns.append(np.where(back >= 0, move[np.maximum(back, 0)], np.nan))
        earlier = np.stack(columns, axis=1)
        enough = 2 * np.count_nonzero(~np.isnan(earlier), axis=1) >= HOURS
        return np.where(enough, average(earlier, axis=1), 0.0)

    def _share(self, move: FloatArray, echo: FloatArray, steps: int) -> FloatArray:
        """How much of the echo came true (n,), from 0 to 1, by the moves known at each step."""
        known = ~np.isnan(move)
        product = np.where(known, move * echo, 0.0)
        square = np.where(known, echo * echo, 0.0)
        last = np.maximum(np.arange(len(move)) + 1 - steps, 0)
        start = np.maximum(last - round(MEMORY_HOURS * self.hour), 0)
        sums = []
        for terms in (product, square):
            total = np.concatenate([[0.0], np.cumsum(terms)])
            sums.append(total[last] - total[start])
        found: FloatArray = np.clip(sums[0] / np.maximum(sums[1], 1e-12), 0.0, 1.0)
        return found


def _ahead(roots: FloatArray, steps: int, *, peak: bool) -> FloatArray:
    """The value ``steps`` after each position (n,), or the maximum until then.

    NaN where it is not known, of a maximum where any step until then is not.
    """
    found = np.full(len(roots), np.nan)
    if len(roots) > steps:
        windows = np.lib.stride_tricks.sliding_window_view(roots[1:], steps)
        found[: len(windows)] = windows.max(axis=1) if peak else roots[steps:]
    return found


@dataclass(frozen=True, slots=True)
class MinuteOfHour:
    """Needs two seasons, as what repeats does, and an hour of at least four steps."""

    name: str = "minute-of-hour"

    def fit(self, series: Series, shape: SeriesShape) -> Fitted | ForecastUnavailable:
        short = too_short(len(series), shape, 2)
        if short is not None:
            return short
        hour = shape.season / HOURS_PER_SEASON
        if hour < FEWEST_STEPS:
            return ForecastUnavailable(
                UnavailableReason.TOO_LITTLE_HISTORY,
                f"a 24th of the season is {hour:.1f} steps long, needs {FEWEST_STEPS}",
            )
        return FittedMinuteOfHour(RootScale.of(series), hour)

"""Bursts at a minute of the hour: the present plus the mean change there in the last hours.

Scheduled jobs on the half hour start, run for some days and end. A model with a season of a day
follows them a day late; a model trained last week does not follow them. This model averages the
change of demand from this minute on over the last 6 hours. A regression through the origin over the
last 12 hours (on the root scale, between 0 and 1) gives the share of that change that is applied.
Without hourly bursts the forecast is the last value.

An hour is a 24th of the season, for any season. Nothing is trained.
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
from r1_forecasting.series.windows import average
from r1_forecasting.unavailable import ForecastUnavailable, UnavailableReason

HOURS_PER_SEASON = 24
HOURS = 6
"""Hours averaged; the change is 0 where fewer than half of them are known."""
REGRESSION_HOURS = 12
"""Hours of the regression that gives the applied share."""
MIN_STEPS = 4
"""Least number of steps in an hour."""


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
        forecast = self._moved(series, origins, horizons, peak=False)
        return np.repeat(forecast[:, :, None], len(levels), axis=2)

    def peak(
        self, series: Series, origins: IntArray, steps: int, levels: Sequence[float]
    ) -> FloatArray:
        forecast = self._moved(series, origins, np.array([steps], dtype=np.int64), peak=True)
        return np.repeat(forecast, len(levels), axis=1)

    def _moved(
        self, series: Series, origins: IntArray, horizons: IntArray, *, peak: bool
    ) -> FloatArray:
        """Demand (origins, horizons) at a number of steps ahead, or its maximum until then.

        More than an hour ahead it is the last value.
        """
        near = horizons[horizons <= self.hour]
        reach = MAX_FILL_STEPS
        if len(near) > 0:
            reach += (
                round(HOURS * self.hour) + round(REGRESSION_HOURS * self.hour) + int(near.max())
            )
        first = max(int(origins.min(initial=len(series))) - reach, 0)
        until = int(origins.max(initial=-1)) + 1
        part = Series(series.start, series.step, series.values[first:until])
        now = self.scale.to(part.forward_filled(MAX_FILL_STEPS))
        roots = self.scale.to(part.values)
        at = origins - first
        columns = []
        for steps in horizons.tolist():
            forecast = now
            if steps <= self.hour:
                change = _ahead(roots, steps, peak=peak) - now
                mean_change = self._mean_change(change, steps)
                forecast = now + self._share(change, mean_change, steps) * mean_change
            columns.append(forecast[at])
        return self.scale.back(np.stack(columns, axis=1))

    def _mean_change(self, change: FloatArray, steps: int) -> FloatArray:
        """Mean change (n,) from this minute on in the last hours; 0 where too few are known."""
        at = np.arange(len(change))
        columns = []
        for number in range(1, HOURS + 1):
            # The change over a horizon of an hour or more is known one hour later.
            back = at - max(round(number * self.hour), steps)
            columns.append(np.where(back >= 0, change[np.maximum(back, 0)], np.nan))
        earlier = np.stack(columns, axis=1)
        enough = 2 * np.count_nonzero(~np.isnan(earlier), axis=1) >= HOURS
        return np.where(enough, average(earlier, axis=1), 0.0)

    def _share(self, change: FloatArray, mean_change: FloatArray, steps: int) -> FloatArray:
        """Applied share (n,) of the mean change, from 0 to 1, by the changes known at each step."""
        known = ~np.isnan(change)
        product = np.where(known, change * mean_change, 0.0)
        square = np.where(known, mean_change * mean_change, 0.0)
        last = np.maximum(np.arange(len(change)) + 1 - steps, 0)
        start = np.maximum(last - round(REGRESSION_HOURS * self.hour), 0)
        sums = []
        for terms in (product, square):
            total = np.concatenate([[0.0], np.cumsum(terms)])
            sums.append(total[last] - total[start])
        share: FloatArray = np.clip(sums[0] / np.maximum(sums[1], 1e-12), 0.0, 1.0)
        return share


def _ahead(roots: FloatArray, steps: int, *, peak: bool) -> FloatArray:
    """The value ``steps`` after each position (n,), or the maximum until then.

    NaN where it is not known, of a maximum where any step until then is not.
    """
    share = np.full(len(roots), np.nan)
    if len(roots) > steps:
        windows = np.lib.stride_tricks.sliding_window_view(roots[1:], steps)
        share[: len(windows)] = windows.max(axis=1) if peak else roots[steps:]
    return share


@dataclass(frozen=True, slots=True)
class MinuteOfHour:
    """Needs two seasons, and an hour of at least four steps."""

    name: str = "minute-of-hour"

    def fit(self, series: Series, shape: SeriesShape) -> Fitted | ForecastUnavailable:
        short = too_short(len(series), shape, 2)
        if short is not None:
            return short
        hour = shape.season / HOURS_PER_SEASON
        if hour < MIN_STEPS:
            return ForecastUnavailable(
                UnavailableReason.TOO_LITTLE_HISTORY,
                f"a 24th of the season is {hour:.1f} steps long, needs {MIN_STEPS}",
            )
        return FittedMinuteOfHour(RootScale.of(series), hour)

"""One interval ahead: the forecaster beside predictors that forecast one value.

Dynamo's throughput planner predicts the requests of the next 180 s. Here the mixture and the last
value predict the same windows: all days before the last five train, `RUN_IN` intervals of these
five warm up every predictor, and the `SCORED` intervals after them are scored, each predicted
from earlier values only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from r1_evaluation.forecast_bench.series import DAY, TooShort
from r1_forecasting.arrays import BoolArray, FloatArray
from r1_forecasting.calibration.root_scale import RootScale
from r1_forecasting.models.baselines.damped_trend import DampedTrend
from r1_forecasting.models.baselines.minute_of_hour import MinuteOfHour
from r1_forecasting.models.baselines.seasonal_level import SeasonalLevel
from r1_forecasting.models.boosted_trees.gbdt import Gbdt
from r1_forecasting.models.neural.lstm import Lstm
from r1_forecasting.models.target import Target
from r1_forecasting.selection.backtest import CEILING
from r1_forecasting.selection.ensemble import issue_all
from r1_forecasting.selection.mixture import MIXTURE
from r1_forecasting.selection.rolling import rolling_quantiles
from r1_forecasting.series.series import Series, resample
from r1_forecasting.series.shape import SeriesShape

TESTED_DAYS = 5
RUN_IN = 200
SCORED = 400
WARM_DAYS = 4
FEWEST_DAYS = TESTED_DAYS + 2
_LEVELS = (0.5, 0.9, 0.95)


@dataclass(frozen=True, slots=True, eq=False)
class Intervals:
    """A series of requests per interval, the first tested position, and what predictors are told.

    `filled` (RUN_IN + SCORED,) is `series` from `test_from` on with each gap held at the value
    before it; `actual` (SCORED,) what came, NaN in a gap; `counts` where an interval and the one
    before it were both collected: only such are scored.
    """

    series: Series
    test_from: int
    filled: FloatArray
    actual: FloatArray
    last: FloatArray
    counts: BoolArray


def intervals_of(series: Series, seconds: float) -> Intervals:
    """Bin a series (requests per minute) into intervals of `seconds`.

    Raises TooShort when days to learn from are missing, or when its steps are no whole parts of
    an interval.
    """
    factor = round(seconds / series.step)
    if factor < 1 or abs(factor * series.step - seconds) > 1e-6:
        raise TooShort(f"buckets of {series.step:g} s are no whole part of {seconds:g} s")
    means = resample(series, factor)
    # Requests per interval, as planners count them: pmdarima's choice of orders heeds the unit.
    binned = Series(means.start, means.step, means.values * seconds / 60)
    day = DAY / seconds
    if len(binned) < FEWEST_DAYS * day:
        raise TooShort(f"the trace lasts {len(binned) / day:.1f} days, needs {FEWEST_DAYS}")
    test_from = len(binned) - round(TESTED_DAYS * day)
    binned = binned.head(test_from + RUN_IN + SCORED)
    held = binned.forward_filled(len(binned))
    actual = binned.values[-SCORED:]
    last = binned.values[-SCORED - 1 : -1]
    counts: BoolArray = ~(np.isnan(actual) | np.isnan(last))
    return Intervals(binned, test_from, held[test_from:], actual, last, counts)


def ours(intervals: Intervals) -> FloatArray:
    """What the mixture says of the scored intervals (SCORED,), as the forecaster runs it."""
    series = intervals.series
    season = DAY / series.step
    next_one = Target(1, peak=False)
    warm_from = max(intervals.test_from // 2, intervals.test_from - round(WARM_DAYS * season))
    origins = np.arange(warm_from, len(series), dtype=np.int64)
    raw = rolling_quantiles(
        series,
        (DampedTrend(), SeasonalLevel(), MinuteOfHour(), Gbdt((next_one,)), Lstm()),
        SeriesShape(season, lead=1, horizon=1, weekly=True),
        (next_one,),
        origins,
        _LEVELS,
        (warm_from, intervals.test_from),
    )[next_one]
    issued = issue_all(
        raw,
        next_one.outcome(series, origins),
        origins,
        next_one.steps,
        season=season,
        levels=_LEVELS,
        scale=RootScale.of(series.head(warm_from)),
        ceiling=CEILING * np.fmax.accumulate(series.values)[origins],
        keep_median=True,
    )
    medians: FloatArray = issued[MIXTURE][-SCORED - 1 : -1, 0]
    return medians


def share_missed(said: FloatArray, intervals: Intervals) -> float:
    """Absolute error as a share of demand (WAPE) over the intervals that count."""
    error = np.abs(said - intervals.actual)[intervals.counts]
    return float(error.sum() / intervals.actual[intervals.counts].sum())

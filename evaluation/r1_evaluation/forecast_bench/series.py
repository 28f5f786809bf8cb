"""A trace as a series, its test days, and the horizons that fit its buckets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from r1_evaluation.traces.load import RateTrace, Trace
from r1_forecasting.arrays import IntArray
from r1_forecasting.series.series import Series

DAY = 86_400.0
BIN_SECONDS = 60.0
"""Single requests are counted in bins of a minute."""
HORIZONS = {"10m": 600.0, "15m": 900.0, "24h": DAY}
ORIGIN_SECONDS = 37 * 60.0
"""Prime in minutes: origins on the half-hour would alias with bursts at minutes of the hour."""
FEWEST_DAYS = 3.0
TESTED_SHARE, FEWEST_TESTED, MOST_TESTED = 0.4, 5.0, 8.0
DENSE_SECONDS = 300.0
WARM_DAYS = 4.0
"""Days before the tested ones over which corrections and weights are warmed up."""
WARM_DAYS_FAR = 28.0
"""The same a day ahead, where a day is little more than one outcome."""


class TooShort(ValueError):
    """The trace cannot be scored; the message names what is missing."""


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """Positions in a series: where tests begin, and the origins that are looked at.

    ``origins`` are denser than what is scored: corrections and weights learn from all.
    """

    test_from: int
    warm_from: int
    origins: IntArray
    scored: IntArray


def series_of(trace: Trace) -> Series:
    """Requests per minute on the trace's own grid; NaN where nothing was collected."""
    if isinstance(trace, RateTrace):
        values = [np.nan if rate is None else rate for rate in trace.per_minute]
        return Series(trace.start, trace.bucket_seconds, np.array(values, dtype=np.float64))
    first = trace.requests[0].at
    slots = np.array([int((request.at - first) // BIN_SECONDS) for request in trace.requests])
    counts = np.bincount(slots).astype(np.float64)
    return Series(first, BIN_SECONDS, counts[:-1])  # the last minute is not over


def window_of(series: Series, warm_days: float = WARM_DAYS) -> Window:
    """The last 5 to 8 days are tested (two fifths of a shorter trace), all earlier ones train.

    Origins begin ``warm_days`` before, or after half of what precedes the test. Raises TooShort below ``FEWEST_DAYS``.
    """
    season = DAY / series.step
    days = len(series) / season
    if days < FEWEST_DAYS:
        raise TooShort(
            f"the trace lasts {days:.1f} days, needs {FEWEST_DAYS:g}: models learn from whole days"
        )
    share = TESTED_SHARE * days
    tested = min(max(share, FEWEST_TESTED), MOST_TESTED, max(share, days - FEWEST_TESTED))
    test_from = len(series) - round(tested * season)
    warm_from = max(test_from // 2, test_from - round(warm_days * season))
    every = ORIGIN_SECONDS / series.step
    count = int(np.ceil((len(series) - test_from) / every))
    scored = np.unique(test_from + np.floor(np.arange(count) * every).astype(np.int64))
    dense = np.arange(warm_from, len(series), max(1, round(DENSE_SECONDS / series.step)))
    return Window(test_from, warm_from, np.unique(np.concatenate([dense, scored])), scored)


def steps_of(series: Series) -> tuple[dict[str, int], list[str]]:
    """Steps of each horizon, and what people should know about those that do not fit."""
    steps: dict[str, int] = {}
    notes: list[str] = []
    for name, seconds in HORIZONS.items():
        if seconds < series.step:
            notes.append(f"{name} is left out: buckets of {series.step:g} s cannot express it")
            continue
        steps[name] = int(seconds / series.step + 0.5)
        rounded = steps[name] * series.step
        if abs(rounded - seconds) > 1e-6:
            notes.append(f"{name} is scored at {rounded:g} s, the nearest whole step")
    return steps, notes

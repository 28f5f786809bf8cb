"""Replay of the forecaster: its forecast at each step, from finished minutes alone.

The scenario's demand is recorded as by the operator's Prometheus: one mean per minute, at most the
last fourteen days before the test. The forecaster replays it (`r1_forecasting.selection.replay`). The
forecast of a minute applies from its end until the next minute's end. The lead is the start-up time
plus a decision period in whole minutes, plus one: the newest minute is up to a minute old when the
next forecast comes. The forecast service computes the same lead.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from r1_evaluation.traces.scenario import (
    DAY_SECONDS,
    MINUTE_STEPS,
    STEP_SECONDS,
    Bools,
    Floats,
    Scenario,
)
from r1_evaluation.traces.windows import coming_max
from r1_forecasting.selection.replay import replay_peaks
from r1_forecasting.series.series import Series
from r1_forecasting.series.shape import SeriesShape

LEVELS = (0.5, 0.8, 0.91, 0.95)
DECISION_LEVEL = 0.91  # peak_quantile while a forecast confirms a scale-down
HISTORY_DAYS = 14
_MINUTE = 60.0


@dataclass(frozen=True, slots=True, eq=False)
class ReplayedForecast:
    """The calibrated peak over the lead (requests/s) at each decision step, and its gate.

    `peaks` has a column for each of `LEVELS`; NaN: no forecast. `acts`: the gate is open.
    """

    peaks: Floats
    acts: Bools

    def at(self, level: float) -> Floats:
        """Return the peak at a level, linear between `LEVELS` and flat beyond, as in production."""
        right = min(int(np.searchsorted(LEVELS, level - 1e-9)), len(LEVELS) - 1)
        above: Floats = self.peaks[:, right]
        if right == 0 or level > LEVELS[right] - 1e-9:
            return above
        below: Floats = self.peaks[:, right - 1]
        share = (level - LEVELS[right - 1]) / (LEVELS[right] - LEVELS[right - 1])
        return below + share * (above - below)


def lead_minutes(start_seconds: float) -> int:
    """Return the forecaster's lead in finished minutes."""
    return math.ceil((start_seconds + STEP_SECONDS) / _MINUTE - 1e-9) + 1


def replay_forecast(scenario: Scenario) -> ReplayedForecast:
    """Replay the forecaster over the decision steps of a scenario."""
    minutes, first = _recorded(scenario)
    season = min(DAY_SECONDS, len(minutes) * _MINUTE / 3)
    shape = SeriesShape(
        season=max(season / _MINUTE, 2.0),
        lead=lead_minutes(scenario.start_seconds),
        horizon=10,
        weekly=len(minutes) * _MINUTE >= 14 * DAY_SECONDS,
    )
    start = max(1, scenario.begin // MINUTE_STEPS - first)
    forecast = replay_peaks(
        Series(first * _MINUTE, _MINUTE, minutes),
        shape,
        test_from=start,
        levels=LEVELS,
        decision_level=DECISION_LEVEL,
    )
    # The newest finished minute at a step is the one before the step's own minute.
    newest = np.arange(scenario.begin, len(scenario.demand)) // MINUTE_STEPS - 1 - first
    row = np.clip(newest - start, 0, len(forecast.origins) - 1)
    known = newest >= start
    peaks = np.where(known[:, None], forecast.peaks[row], np.nan)
    return ReplayedForecast(peaks, forecast.gate_open[row] & known & ~np.isnan(peaks).any(axis=1))


def perfect_forecast(scenario: Scenario) -> Floats:
    """Return the true maximum over the start-up time and a decision period at each step."""
    return coming_max(scenario.demand, scenario.start_steps)[scenario.decision_steps]


def _recorded(scenario: Scenario) -> tuple[Floats, int]:
    """Return the mean of each minute (NaN in gaps) and the number of the first minute."""
    count = len(scenario.demand) // MINUTE_STEPS
    shape = (count, MINUTE_STEPS)
    means = scenario.demand[: count * MINUTE_STEPS].reshape(shape).mean(axis=1)
    observed = scenario.known[: count * MINUTE_STEPS].reshape(shape).any(axis=1)
    minutes = np.where(observed, means, np.nan)
    first = max(0, scenario.begin // MINUTE_STEPS - round(HISTORY_DAYS * DAY_SECONDS / _MINUTE))
    return minutes[first:], first

"""What a forecaster would have said at each step, from closed minutes alone.

The demand of the simulated world is recorded as the operator's Prometheus would: one mean a
minute, at most the last fourteen days before the test. The forecaster replays it (see
`r1_forecasting.selection.replay`); its word of a minute is used from the minute's end until the next one
ends. The lead is the start-up time plus a decision period, in whole minutes, and one more because
the newest minute is up to a minute old when the next word comes: the service reckons the same.
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
from r1_forecasting.protocol import SeriesShape
from r1_forecasting.selection.replay import replay_peaks
from r1_forecasting.series.series import Series

LEVELS = (0.5, 0.8, 0.91, 0.95)
DECISION_LEVEL = 0.91  # what peak_quantile comes to while a forecast vouches
HISTORY_DAYS = 14
_MINUTE = 60.0


@dataclass(frozen=True, slots=True, eq=False)
class ReplayedForecast:
    """The calibrated peak over the lead (requests/s) at each played step, and where it may act.

    `peaks` has a column for each of `LEVELS`; NaN where nothing was said.
    """

    peaks: Floats
    acts: Bools

    def at(self, level: float) -> Floats:
        """Return the peak at a level, linear between `LEVELS` and flat beyond, as production."""
        right = min(int(np.searchsorted(LEVELS, level - 1e-9)), len(LEVELS) - 1)
        above: Floats = self.peaks[:, right]
        if right == 0 or level > LEVELS[right] - 1e-9:
            return above
        below: Floats = self.peaks[:, right - 1]
        share = (level - LEVELS[right - 1]) / (LEVELS[right] - LEVELS[right - 1])
        return below + share * (above - below)


def lead_minutes(start_seconds: float) -> int:
    """Return for how many closed minutes ahead the forecaster has to answer."""
    return math.ceil((start_seconds + STEP_SECONDS) / _MINUTE - 1e-9) + 1


def replay_forecast(scenario: Scenario) -> ReplayedForecast:
    """Replay the forecaster over the played part of a world."""
    minutes, first = _recorded(scenario)
    season = min(DAY_SECONDS, len(minutes) * _MINUTE / 3)
    shape = SeriesShape(
        season=max(season / _MINUTE, 2.0),
        lead=lead_minutes(scenario.start_seconds),
        horizon=10,
        weekly=len(minutes) * _MINUTE >= 14 * DAY_SECONDS,
    )
    start = max(1, scenario.begin // MINUTE_STEPS - first)
    said = replay_peaks(
        Series(first * _MINUTE, _MINUTE, minutes),
        shape,
        test_from=start,
        levels=LEVELS,
        decision_level=DECISION_LEVEL,
    )
    # At a step the newest closed minute is the one before the minute the step lies in.
    newest = np.arange(scenario.begin, len(scenario.demand)) // MINUTE_STEPS - 1 - first
    row = np.clip(newest - start, 0, len(said.origins) - 1)
    known = newest >= start
    peaks = np.where(known[:, None], said.peaks[row], np.nan)
    return ReplayedForecast(peaks, said.acts[row] & known & ~np.isnan(peaks).any(axis=1))


def perfect_forecast(scenario: Scenario) -> Floats:
    """Return the true maximum over the start-up time and a decision period at each step."""
    return coming_max(scenario.demand, scenario.start_steps)[scenario.decision_steps]


def _recorded(scenario: Scenario) -> tuple[Floats, int]:
    """Return the minutes' means and the number of the first: gaps are NaN."""
    count = len(scenario.demand) // MINUTE_STEPS
    shape = (count, MINUTE_STEPS)
    means = scenario.demand[: count * MINUTE_STEPS].reshape(shape).mean(axis=1)
    seen = scenario.known[: count * MINUTE_STEPS].reshape(shape).any(axis=1)
    minutes = np.where(seen, means, np.nan)
    first = max(0, scenario.begin // MINUTE_STEPS - round(HISTORY_DAYS * DAY_SECONDS / _MINUTE))
    return minutes[first:], first

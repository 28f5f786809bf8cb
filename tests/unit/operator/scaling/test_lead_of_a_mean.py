"""Lead time of a forecast that learns from a trailing mean, which is half a window late.

The case failed on a real cluster: a season of three minutes, a ramp of 24 seconds,
rates over a minute. With the start-up time alone the second replica came 12 s after the load; with a lead time longer by
half a window it is in time. There is no noise, so nothing else matters.
"""

import numpy as np
import pytest

from r1_forecasting.forecast import Forecast, issue
from r1_forecasting.selection.evaluation import evaluate
from r1_forecasting.series.series import Series
from r1_operator.api.scaling import ForecastSpec, MetricType
from r1_operator.kube.kinds import Key
from r1_operator.sources.forecast import build_forecast_query

SEASON, STEP, SEASONS = 180, 3, 8
QUIET, BUSY, RAMP_FROM, RAMP_TO, RAMP_END = 0.3, 2.6, 105, 129, 165
ONE_REPLICA = 0.7 * 2.0
START_SECONDS, DECISION_SECONDS = 20.0, 2.0
PASSES_AT = RAMP_FROM + (RAMP_TO - RAMP_FROM) * (2.0 - QUIET) / (BUSY - QUIET)
ZERO = 1_700_000_100.0


def demand(seconds: np.ndarray) -> np.ndarray:
    phase = seconds % SEASON
    ramp = QUIET + (BUSY - QUIET) * np.clip((phase - RAMP_FROM) / (RAMP_TO - RAMP_FROM), 0, 1)
    return np.where(phase < RAMP_END, ramp, QUIET)


def trailing_mean(window: int, until: float) -> Series:
    """The values of `rate(...[window])` on the grid of the step, up to `until` (seconds from ZERO)."""
    offered = np.concatenate([[0.0], np.cumsum(demand(np.arange(SEASON * (SEASONS + 1)) + 0.5))])
    at = np.arange(SEASON, until + 1e-9, STEP).astype(int)
    return Series(ZERO + SEASON, STEP, (offered[at] - offered[at - window]) / window)


@pytest.mark.parametrize("window", [9, 60])
def test_replicas_are_requested_one_lead_time_before_the_peak(window: int) -> None:
    spec = ForecastSpec(
        season_seconds=SEASON, step_seconds=STEP, horizon_seconds=60, history_seconds=7 * SEASON
    )
    forecast_query = build_forecast_query(
        Key("default", "r1"),
        spec,
        MetricType.REQUESTS_PER_SECOND,
        START_SECONDS + DECISION_SECONDS,
        window,
    )
    request = forecast_query.request
    last_moment = SEASONS * SEASON + PASSES_AT - START_SECONDS - DECISION_SECONDS
    series = trailing_mean(window, last_moment).tail(request.history_steps)
    judged = evaluate(series, request, {}, None)
    assert judged.gate.open
    made = issue(
        series,
        judged.fitted,
        judged.scorecard,
        judged.gate,
        judged.points,
        request,
        ZERO + last_moment,
    )
    assert isinstance(made, Forecast)
    peak = dict(zip(made.levels, made.peak_over_lead, strict=True))[0.9]
    assert peak > ONE_REPLICA, f"one replica is enough, says {made.model}: {peak:.2f}/s"

"""A forecast at a given time: its times, its fallback and its reasons."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from r1_common.contracts.forecast_request import ForecastRequest, parse_forecast_request
from r1_forecasting.forecast import Forecast, issue
from r1_forecasting.selection.evaluation import Evaluation, evaluate
from r1_forecasting.selection.gate import GateReason
from r1_forecasting.series.series import Series
from r1_forecasting.unavailable import ForecastUnavailable, UnavailableReason

START = 1_700_000_000.0


def question(**changes: object) -> ForecastRequest:
    return parse_forecast_request(
        {
            "series": "default/r1",
            "query": "demand",
            "stepSeconds": 2,
            "seasonSeconds": 120,
            "historySeconds": 1200,
            "leadSeconds": 9,
            "horizonSeconds": 30,
        }
        | changes
    )


def demand(count: int = 500) -> Series:
    at = np.arange(count)
    level = np.where(at % 60 >= 40, 30.0, 3.0)
    return Series(START, 2.0, level * np.random.default_rng(2).gamma(200, 1 / 200, count))


def at(series: Series, now: float, request: ForecastRequest) -> Forecast | ForecastUnavailable:
    evaluated: Evaluation = evaluate(series, request, {}, None)
    return issue(
        series,
        evaluated.fitted,
        evaluated.scorecard,
        evaluated.gate,
        evaluated.points,
        request,
        now,
    )


@pytest.mark.parametrize("late", [0.0, 0.3, 1.99, 2.0, 5.0, 19.9])
def test_every_time_lies_after_now_and_after_the_last_observation(late: float) -> None:
    """A forecast for "start + k seconds" on a grid of steps would read its own past."""
    series = demand()
    now = series.end + late
    made = at(series, now, question())
    assert isinstance(made, Forecast)
    times = [point.at for point in made.points]
    assert min(times) > max(now, series.end)
    assert np.allclose(np.diff(times), 2.0)
    assert (times[0] - series.end) % 2.0 == pytest.approx(0)
    assert now < made.valid_until <= now + 2.0


def test_the_points_read_the_phase_that_lies_ahead() -> None:
    """Four steps before the ramp, the fifth point is the ramp's first."""
    series = demand(300 + 36)  # the last observation is at phase 35, the ramp begins at 40
    made = at(series, series.end + 0.5, question(levels=[0.5, 0.9]))
    assert isinstance(made, Forecast)
    assert [point.quantiles[0] > 15 for point in made.points[:7]] == [False] * 4 + [True] * 3
    assert made.peak_over_lead[1] > 20
    assert made.gate.open


def test_quantiles_ascend_and_match_the_requested_levels() -> None:
    made = at(demand(), demand().end, question(levels=[0.99, 0.5, 0.9]))
    assert isinstance(made, Forecast)
    assert made.levels == (0.5, 0.9, 0.99)
    for row in [made.peak_over_lead, *(point.quantiles for point in made.points)]:
        assert list(row) == sorted(row)


def test_a_long_horizon_is_thinned_to_a_readable_number_of_points() -> None:
    made = at(demand(), demand().end, question(horizonSeconds=1000))
    assert isinstance(made, Forecast)
    assert 80 <= len(made.points) <= 96
    assert made.points[-1].at <= demand().end + 1000


def test_model_without_a_value_after_a_gap_falls_back_to_the_last_value() -> None:
    series = demand()
    request = question()
    evaluated = evaluate(series, request, {}, None)
    assert evaluated.gate.model == "seasonal-naive"
    values = series.values.copy()
    values[:-50] = np.nan  # what earlier seasons held is gone
    broken = Series(series.start, series.step, values)
    made = issue(
        broken,
        evaluated.fitted,
        evaluated.scorecard,
        evaluated.gate,
        evaluated.points,
        request,
        broken.end,
    )
    assert isinstance(made, Forecast)
    assert (made.model, made.gate.open) == ("last-value", False)
    assert made.gate.reason is GateReason.MODEL_UNAVAILABLE


def test_old_last_observation_is_no_data() -> None:
    refused = at(demand(), demand().end + 100, question())
    assert isinstance(refused, ForecastUnavailable)
    assert refused.reason is UnavailableReason.NO_DATA
    assert "100 s old" in refused.message


@pytest.mark.parametrize("count", [2, 10, 39])
def test_a_new_service_has_too_little_history(count: int) -> None:
    refused = at(demand().head(count), demand().head(count).end, question())
    assert isinstance(refused, ForecastUnavailable)
    assert refused.reason is UnavailableReason.TOO_LITTLE_HISTORY
    assert f"{count} observations" in refused.message


def test_less_than_two_seasons_leave_the_last_value() -> None:
    series = demand().head(100)
    made = at(series, series.end, question())
    assert isinstance(made, Forecast)
    assert made.model == "last-value"
    assert not made.gate.open


def test_constant_zero_demand_is_forecast_as_zero() -> None:
    series = Series(START, 2.0, np.zeros(500))
    made = at(series, series.end, question())
    assert isinstance(made, Forecast)
    assert made.gate.reason is GateReason.CONSTANT_DEMAND
    assert max(made.peak_over_lead) == 0


def test_longer_lead_than_evaluated_gets_a_forecast_at_once() -> None:
    series = demand(300 + 20)  # the ramp is 20 steps away
    evaluated = evaluate(series, question(), {}, None)
    longer = replace(question(), lead=44.0)
    made = issue(
        series,
        evaluated.fitted,
        evaluated.scorecard,
        evaluated.gate,
        evaluated.points,
        longer,
        series.end,
    )
    assert isinstance(made, Forecast)
    assert made.peak_over_lead[1] > 20

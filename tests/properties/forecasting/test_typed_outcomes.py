"""Faults of real counters, one by one, for every model.

Each story is told as samples of a counter, so the whole way is walked: rates, the grid, the fit, the
backtest, the answer. A model may say that it has nothing to say; it may not fail, say NaN beside a
present, go below zero, or speak of the past.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from r1_common.contracts.forecast_request import ForecastRequest, parse_forecast_request
from r1_forecasting.calibration.root_scale import RootScale
from r1_forecasting.forecast import check_history, issue
from r1_forecasting.models.baselines.last_value import MAX_FILL_STEPS
from r1_forecasting.models.baselines.minute_of_hour import FittedMinuteOfHour
from r1_forecasting.models.boosted_trees.gbdt import Gbdt
from r1_forecasting.models.neural.lstm import Lstm
from r1_forecasting.models.protocol import Fitted, Forecaster
from r1_forecasting.models.registry import learned, quick, season_ahead, training_part
from r1_forecasting.selection.evaluation import evaluate
from r1_forecasting.selection.gate import GateReason
from r1_forecasting.series.series import Series, from_samples, rates
from r1_forecasting.series.shape import SeriesShape
from r1_forecasting.unavailable import ForecastUnavailable, UnavailableReason

Samples = list[tuple[float, float]]
START, SEASON, SEASONS = 1_700_000_000.0, 40, 12
LEVELS = (0.5, 0.9)
SHAPE = SeriesShape(SEASON, 3, 6)


def counted(demand: list[float], start: float = START) -> Samples:
    """A counter read once a second."""
    total = np.cumsum(demand)
    return [(start + k, float(value)) for k, value in enumerate(total)]


def usual(seed: int, seasons: float = SEASONS) -> list[float]:
    """Ramps with noise."""
    phase = np.arange(round(seasons * SEASON)) % SEASON / SEASON
    level = np.where((phase >= 0.5) & (phase < 0.8), 20.0, 2.0)
    noise = np.random.default_rng(seed).gamma(30, 1 / 30, len(level))
    return [float(value) for value in level * noise]


def gaps(seed: int, at: float, size: int) -> Samples:
    known = counted(usual(seed))
    first = round(at * len(known))
    return known[:first] + known[first + size :]


def clock_set_forward_and_back(seed: int, at: float, size: int) -> Samples:
    known, third = counted(usual(seed)), len(usual(seed)) // 3
    first = round(at * third)
    wrong = [(when + size, value) for when, value in known[first : first + third]]
    return known[:first] + wrong + known[first + third :]


def restarts(seed: int, at: float, size: int) -> Samples:
    """Away for a while each time, and a counter that begins again at zero."""
    demand, samples = usual(seed), []
    for part in np.array_split(np.arange(len(demand)), 4):
        away = size if part[0] else 0
        samples += counted([demand[k] for k in part[away:]], START + float(part[0]) + away)
    return samples


def counter_resets(seed: int, at: float, size: int) -> Samples:
    """Back to zero again and again, missing nothing."""
    every = max(round(at * 50), 2)
    total, samples = 0.0, []
    for k, value in enumerate(usual(seed)):
        total = value if k % every == 0 else total + value
        samples.append((START + k, total))
    return samples


def too_little(seed: int, at: float, size: int) -> Samples:
    return counted(usual(seed))[: min(size, 38)]


def constant_zero(seed: int, at: float, size: int) -> Samples:
    return [(when, 7.0) for when, _ in counted(usual(seed))]


def new_service(seed: int, at: float, size: int) -> Samples:
    """Between one and three seasons old."""
    return counted(usual(seed, 1 + 2 * at))


def nothing_but_nonsense(seed: int, at: float, size: int) -> Samples:
    return [(START + k, math.nan if k % 2 else math.inf) for k in range(size)]


STORIES: dict[str, Callable[[int, float, int], Samples]] = {
    story.__name__: story
    for story in (
        gaps,
        clock_set_forward_and_back,
        restarts,
        counter_resets,
        too_little,
        constant_zero,
        new_service,
        nothing_but_nonsense,
    )
}


def small(forecaster: Forecaster) -> Forecaster:
    """The same with less to train: what is tested is not how well."""
    if isinstance(forecaster, Gbdt):
        return replace(forecaster, trees=40)
    if isinstance(forecaster, Lstm):
        return replace(forecaster, epochs=1)
    return forecaster


def question() -> ForecastRequest:
    body: dict[str, object] = {
        "series": "a/b",
        "query": "q",
        "stepSeconds": 1,
        "seasonSeconds": SEASON,
        "historySeconds": SEASON * SEASONS,
        "leadSeconds": 2,
        "horizonSeconds": 6,
        "levels": list(LEVELS),
    }
    return parse_forecast_request(body)


def must_be_sound(fitted: Fitted, series: Series) -> None:
    """Finite or NaN, never below zero."""
    origins = np.arange(len(series))
    predicted = (
        fitted.predict(series, origins, np.array([1, 6]), LEVELS),
        fitted.peak(series, origins, SHAPE.lead, LEVELS),
    )
    for values in predicted:
        assert not np.isinf(values).any()
        assert (values[~np.isnan(values)] >= 0).all()
    if not fitted.name.startswith(("seasonal-", "weekly-")):  # they need what a season ago was
        present = ~np.isnan(series.forward_filled(MAX_FILL_STEPS))
        assert not np.isnan(predicted[1][present & (origins >= SEASON)]).any(), fitted.name


def must_answer(series: Series, fits: dict[str, Fitted], late: float) -> None:
    """The resulting response: a forecast after now, or a reason."""
    request, now = question(), series.end + late
    refused = check_history(series, request, now)
    if refused is not None:
        assert refused.message
        return
    evaluation = evaluate(series, request, fits, None)
    assert evaluation.gate.reason in GateReason
    made = issue(
        series,
        evaluation.fitted,
        evaluation.scorecard,
        evaluation.gate,
        evaluation.points,
        request,
        now,
    )
    if isinstance(made, ForecastUnavailable):
        assert made.message
        return
    assert all(math.isfinite(value) and value >= 0 for value in made.peak_over_lead)
    assert min(point.at for point in made.points) > now
    assert all(math.isfinite(value) for point in made.points for value in point.quantiles)


def outcome_of(
    forecaster: Forecaster, story: str, seed: int, at: float, size: int, late: float
) -> None:
    samples = rates(STORIES[story](seed, at, size))
    series = from_samples(samples, 1.0, until=START + 2 * SEASON * SEASONS)
    if isinstance(series, ForecastUnavailable):
        assert series.reason is UnavailableReason.NO_DATA
        assert story in ("too_little", "nothing_but_nonsense")
        return
    outcome = forecaster.fit(training_part(series, SHAPE), SHAPE)
    if isinstance(outcome, ForecastUnavailable):
        assert outcome.message
        assert outcome.reason in (UnavailableReason.TOO_LITTLE_HISTORY, UnavailableReason.NO_DATA)
        must_answer(series, {}, late)
        return
    must_be_sound(outcome, series)
    must_answer(series, {outcome.name: outcome}, late)


class EchoOfFive:
    """Minute-of-hour for a season whose 24th part is too short for the model."""

    name = "minute-of-hour-of-five"

    def fit(self, series: Series, shape: SeriesShape) -> Fitted | ForecastUnavailable:
        return FittedMinuteOfHour(RootScale.of(series), 5.0, self.name)


DRAWN = (
    st.integers(0, 1000),
    st.floats(0.05, 0.9),
    st.integers(1, 60),
    st.floats(0, 12),
)
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("story", STORIES)
@pytest.mark.parametrize(
    "forecaster",
    [*quick(), *season_ahead(), EchoOfFive()],
    ids=lambda forecaster: forecaster.name,
)
@settings(PATIENT, max_examples=8)
@given(*DRAWN)
def test_some_quick_model_is_fitted(
    story: str, forecaster: Forecaster, seed: int, at: float, size: int, late: float
) -> None:
    outcome_of(forecaster, story, seed, at, size, late)


@pytest.mark.parametrize("story", STORIES)
@pytest.mark.parametrize("forecaster", learned(), ids=lambda forecaster: forecaster.name)
@settings(PATIENT, max_examples=2)
@given(*DRAWN)
def test_some_learned_model_is_fitted(
    story: str, forecaster: Forecaster, seed: int, at: float, size: int, late: float
) -> None:
    outcome_of(small(forecaster), story, seed, at, size, late)


@pytest.mark.parametrize("forecaster", learned(), ids=lambda forecaster: forecaster.name)
def test_generated_histories_train_each_learned_model(forecaster: Forecaster) -> None:
    """Without training data the tests above would be empty."""
    for story in ("gaps", "restarts"):
        series = from_samples(rates(STORIES[story](1, 0.5, 5)), 1.0, until=START + 1e6)
        assert isinstance(series, Series)
        fitted = small(forecaster).fit(training_part(series, SHAPE), SHAPE)
        assert not isinstance(fitted, ForecastUnavailable), f"{story}: {fitted}"


@pytest.mark.parametrize(
    ("story", "reason"),
    [("constant_zero", GateReason.CONSTANT_DEMAND), ("gaps", GateReason.BEATS_LAST_VALUE)],
)
def test_gate_reason_is_in_the_response(story: str, reason: GateReason) -> None:
    series = from_samples(rates(STORIES[story](1, 0.5, 3)), 1.0, until=START + 1e6)
    assert isinstance(series, Series)
    evaluation = evaluate(series, question(), {}, None)
    assert evaluation.gate.reason in (reason, GateReason.BEATS_BASELINES)
    assert (evaluation.scorecard.potential_saving > 0) == (story == "gaps")

"""Invariants for any history: typed outcomes, no NaN, no look-ahead."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from r1_common.contracts.forecast_request import parse_forecast_request
from r1_forecasting.calibration.root_scale import RootScale
from r1_forecasting.forecast import Forecast, check_history, issue
from r1_forecasting.models.baselines.damped_trend import DampedTrend, FittedDampedTrend
from r1_forecasting.models.baselines.last_value import LastValue
from r1_forecasting.models.baselines.minute_of_hour import FittedMinuteOfHour
from r1_forecasting.models.baselines.seasonal_level import SeasonalLevel
from r1_forecasting.models.baselines.seasonal_naive import FittedSeasonalNaive, SeasonalNaive
from r1_forecasting.models.boosted_trees.gbdt import FittedGbdt
from r1_forecasting.models.boosted_trees.gbdt_inputs import PrefixSums, build_features
from r1_forecasting.models.boosted_trees.trees import Forest
from r1_forecasting.models.neural.lstm import HEADS, FittedLstm, Weights
from r1_forecasting.models.neural.lstm_inputs import CONTEXT, PATCH
from r1_forecasting.models.prophet import FittedProphet
from r1_forecasting.models.protocol import Fitted
from r1_forecasting.models.seasonal_drift import FittedSeasonalDrift
from r1_forecasting.models.target import Target
from r1_forecasting.selection.evaluation import evaluate
from r1_forecasting.selection.mixture import FittedMixture
from r1_forecasting.selection.replay import replay_peaks
from r1_forecasting.series.series import Series, from_samples, rates
from r1_forecasting.series.shape import SeriesShape
from r1_forecasting.series.windows import knots
from r1_forecasting.unavailable import ForecastUnavailable

SEASON = 12
LEVELS = (0.5, 0.9)
START = 1_700_000_000.0
CALM = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

values = st.one_of(
    st.floats(0, 1e6), st.just(0.0), st.just(float("nan")), st.sampled_from([1e-9, 1e12])
)


@st.composite
def histories(draw: st.DrawFn) -> Series:
    """Random pieces, flat stretches, gaps and spikes on a grid of one second."""
    parts: list[float] = []
    for _ in range(draw(st.integers(1, 12))):
        value = draw(values)
        parts += [value * f for f in draw(st.lists(st.floats(0.5, 2), min_size=1, max_size=25))]
    return Series(START, 1.0, np.array(parts))


def question(**changes: object) -> dict[str, object]:
    return {
        "series": "a/b",
        "query": "q",
        "stepSeconds": 1,
        "seasonSeconds": SEASON,
        "historySeconds": 1000,
        "leadSeconds": 3,
        "horizonSeconds": 6,
        **changes,
    }


@CALM
@given(
    histories(),
    st.floats(-5, 30),
    st.floats(0, 40),
    st.floats(0.5, 60),
    st.lists(st.floats(0.01, 0.999), min_size=1, max_size=4),
)
def test_any_history_gives_a_sound_forecast_or_a_reason(
    series: Series, late: float, lead: float, horizon: float, levels: list[float]
) -> None:
    request = parse_forecast_request(
        question(leadSeconds=lead, horizonSeconds=horizon, levels=levels)
    )
    now = series.end + late
    refused = check_history(series, request, now)
    if refused is not None:
        assert refused.message
        return
    evaluation = evaluate(series, request, {}, None)
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
    assert isinstance(made, Forecast)
    highest = float(np.nanmax(series.values))
    for row in [made.peak_over_lead, *(point.quantiles for point in made.points)]:
        assert all(math.isfinite(value) and value >= 0 for value in row)
        assert list(row) == sorted(row)
        assert max(row) <= 2 * highest + 1e-6
    times = [point.at for point in made.points]
    assert times
    assert min(times) > max(now, made.last_observed_at)
    assert made.valid_until > now


@cache
def untrained_lstm() -> FittedLstm:
    """Random weights: the test checks the inputs, not the quality."""
    rng = np.random.default_rng(0)
    steps = knots(6)
    side, units = 3 + 2 * len(steps), 6
    weights = Weights(
        rng.normal(0, 0.5, (4 * units, 2 * PATCH)),
        rng.normal(0, 0.5, (4 * units, units)),
        rng.normal(0, 0.5, 4 * units),
        rng.normal(0, 0.5, (units, units + side)),
        rng.normal(0, 0.5, units),
        rng.normal(0, 0.5, (2 * len(steps) * len(HEADS), units)),
        rng.normal(0, 0.5, 2 * len(steps) * len(HEADS)),
    )
    return FittedLstm(weights, RootScale(0.1), 1.0, SEASON, steps, START)


@cache
def random_forest() -> FittedGbdt:
    """Trees of one split each on random columns, the next value's and the peak's."""
    rng = np.random.default_rng(1)
    blank = PrefixSums.of(Series(START, 1.0, np.ones(100)), RootScale(0.1), SEASON)
    columns = build_features(blank, np.array([50]), 3)[1].shape[1]

    def forest() -> Forest:
        count = 3 * columns
        return Forest(
            feature=rng.permutation(np.arange(count) % columns)[:, None],
            threshold=rng.normal(0, 0.3, (count, 1)),
            left=np.full((count, 1), -1),
            right=np.full((count, 1), -2),
            missing_left=rng.random((count, 1)) < 0.5,
            leaf=rng.normal(0, 0.1, (count, 2)),
            depth=1,
        )

    targets = (Target(1, peak=False), Target(6, peak=False), Target(4, peak=True))
    forests = {target: (forest(), forest()) for target in targets}
    return FittedGbdt(forests, dict.fromkeys(targets, 1.0), RootScale(0.1), SEASON, START)


def models() -> list[Fitted]:
    training = Series(START, 1.0, 5 + np.sin(np.arange(100)))
    level = SeasonalLevel().fit(training, SeriesShape(SEASON, 3, 6))
    assert not isinstance(level, ForecastUnavailable)
    curve = 3 + np.sin(np.arange(3 * CONTEXT * PATCH))
    members: tuple[Fitted, ...] = (LastValue(), level, random_forest())
    return [
        LastValue(),
        FittedDampedTrend(0.3, 0.9, START),
        random_forest(),
        FittedMixture(members, np.array([0.5, 0.3, 0.2]), START),
        FittedSeasonalNaive(SEASON, 3),
        FittedSeasonalDrift(RootScale(0.1), SEASON, (1, 2, 3), "seasonal-drift"),
        FittedMinuteOfHour(RootScale(0.1), 4.5),
        level,
        untrained_lstm(),
        FittedProphet(START, 1.0, curve, START),
    ]


@pytest.mark.parametrize("model", models(), ids=lambda model: model.name)
@CALM
@given(st.data())
def test_no_model_knows_anything_after_its_origin(model: Fitted, data: st.DataObject) -> None:
    known = data.draw(st.lists(st.floats(0, 100), min_size=90, max_size=90))
    later = data.draw(st.lists(values, min_size=15, max_size=15))
    one = Series(START, 1.0, np.array(known + [1.0] * 15))
    two = Series(START, 1.0, np.array(known + later))
    origins = np.array([50, 80, 89])
    horizons = np.array([1, 3, 6])
    np.testing.assert_array_equal(
        model.predict(one, origins, horizons, LEVELS), model.predict(two, origins, horizons, LEVELS)
    )
    np.testing.assert_array_equal(
        model.peak(one, origins, 4, LEVELS), model.peak(two, origins, 4, LEVELS)
    )


@CALM
@given(histories(), st.integers(1, 5), st.integers(1, 20))
def test_any_history_is_smoothed_to_finite_values_or_to_nothing(
    series: Series, lead: int, horizon: int
) -> None:
    fitted = DampedTrend().fit(series, SeriesShape(SEASON, lead, horizon))
    if isinstance(fitted, ForecastUnavailable):
        assert fitted.message
        return
    predicted = fitted.predict(series, np.arange(len(series)), np.array([1, horizon]), LEVELS)
    assert not np.isinf(predicted).any()
    assert (predicted[~np.isnan(predicted)] >= 0).all()
    stale = np.isnan(series.forward_filled(10))
    assert np.isnan(predicted[stale]).all()
    assert not np.isnan(predicted[~stale]).any()


@CALM
@given(st.lists(values, min_size=3 * SEASON, max_size=6 * SEASON), st.integers(1, SEASON))
def test_replay_of_any_history_is_ordered_finite_and_closed_without_values(
    demand: list[float], test_from: int
) -> None:
    series = Series(START, 1.0, np.array(demand))
    made = replay_peaks(
        series,
        SeriesShape(SEASON, 3, 3),
        test_from=len(series) - test_from,
        levels=LEVELS,
        models=(SeasonalNaive(), DampedTrend()),
    )
    assert made.peaks.shape == (test_from, len(LEVELS))
    silent = np.isnan(made.peaks).any(axis=1)
    assert not made.gate_open[silent].any()
    predicted = made.peaks[~silent]
    assert np.isfinite(predicted).all()
    assert (predicted >= 0).all()
    assert (np.diff(predicted, axis=1) >= 0).all()


anything = st.floats(allow_nan=True, allow_infinity=True, width=32)


@CALM
@given(
    st.lists(st.tuples(st.floats(-10, 500), anything), max_size=60),
    st.floats(0.5, 7),
    st.floats(0, 400),
)
def test_samples_of_any_kind_make_a_series_that_ends_in_the_past_or_no_data(
    samples: list[tuple[float, float]], step: float, until: float
) -> None:
    made = from_samples(samples, step, until=until)
    if isinstance(made, ForecastUnavailable):
        return
    known_values = made.values[~np.isnan(made.values)]
    assert len(known_values) > 0
    assert (known_values >= 0).all()
    assert np.isfinite(known_values).all()
    assert made.end <= until + 1e-5
    assert not np.isnan(made.values[[0, -1]]).any()


@CALM
@given(st.lists(st.tuples(anything, anything), max_size=40))
def test_rates_of_a_counter_are_never_negative(samples: list[tuple[float, float]]) -> None:
    assert all(rate >= 0 for _, rate in rates(samples))

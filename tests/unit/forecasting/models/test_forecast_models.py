"""Each model on demand with a result computed by hand."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from r1_forecasting.calibration.root_scale import RootScale
from r1_forecasting.models.baselines.last_value import LastValue
from r1_forecasting.models.baselines.seasonal_level import SeasonalLevel
from r1_forecasting.models.baselines.seasonal_naive import SeasonalNaive
from r1_forecasting.models.neural.lstm import FittedLstm, Lstm
from r1_forecasting.models.neural.lstm_inputs import build_inputs
from r1_forecasting.models.prophet import FittedProphet, ProphetForecaster
from r1_forecasting.models.protocol import Fitted, Forecaster
from r1_forecasting.models.registry import fit_quick
from r1_forecasting.models.seasonal_drift import A_WEEK_AGO, SeasonalDrift
from r1_forecasting.series.series import Series
from r1_forecasting.series.shape import SeriesShape
from r1_forecasting.unavailable import ForecastUnavailable, UnavailableReason

SEASON = 48
LEVELS = (0.5, 0.9)


def ramps(seasons: float, *, noise: float = 0.05, seed: int = 3) -> Series:
    """2 per second, 20 in the third quarter of each season; seconds as steps."""
    count = round(seasons * SEASON)
    phase = np.arange(count) % SEASON / SEASON
    level = np.where((phase >= 0.5) & (phase < 0.75), 20.0, 2.0)
    spread = np.random.default_rng(seed).normal(1, noise, count)
    return Series(1_700_000_016.0, 1.0, level * np.maximum(spread, 0))


def fit(forecaster: Forecaster, series: Series, shape: SeriesShape) -> Fitted:
    fitted = forecaster.fit(series, shape)
    assert not isinstance(fitted, ForecastUnavailable), fitted.message
    return fitted


def test_the_last_value_stays_through_a_short_gap_and_then_is_gone() -> None:
    series = Series(0, 1, np.array([3.0, 4.0] + [np.nan] * 14))
    origins = np.array([1, 5, 15])
    peak = LastValue().peak(series, origins, 5, LEVELS)
    assert peak[:2].tolist() == [[4, 4], [4, 4]]
    assert np.isnan(peak[2]).all()


def test_seasonal_naive_forecasts_the_ramp_before_its_start() -> None:
    series = ramps(6)
    shape = SeriesShape(SEASON, lead=5, horizon=10)
    model = fit(SeasonalNaive(), series, shape)
    before = int(5.5 * SEASON) - 4  # the next five steps hold the ramp's first
    long_before = before - 4
    peak = model.peak(series, np.array([long_before, before]), 5, LEVELS)
    assert peak[0].max() < 3
    assert peak[1].min() > 15
    points = model.predict(series, np.array([before]), np.array([1, 2, 3, 4, 5]), LEVELS)
    assert (points[0, :2] < 3).all()
    assert (points[0, 4] > 15).all()


def test_one_season_is_too_little_for_a_seasonal_model() -> None:
    refused = SeasonalNaive().fit(ramps(1.5), SeriesShape(SEASON, 5, 10))
    assert isinstance(refused, ForecastUnavailable)
    assert refused.reason is UnavailableReason.TOO_LITTLE_HISTORY
    assert "1.5 seasons" in refused.message


def test_the_seasonal_level_follows_a_service_that_has_grown() -> None:
    """Seasons differ in level, the last runs at twice: naive repeats, level rises from now."""
    series = ramps(8)
    busy = np.repeat([1.0, 1.6, 0.7, 1.3, 0.8, 1.5, 1.0, 2.0], SEASON)
    grown = Series(series.start, series.step, series.values * busy)
    shape = SeriesShape(SEASON, 5, 10)
    before = np.array([int(7.5 * SEASON) - 2])
    level = fit(SeasonalLevel(), grown.head(6 * SEASON), shape).peak(grown, before, 5, LEVELS)
    naive = fit(SeasonalNaive(), grown, shape).peak(grown, before, 5, LEVELS)
    assert abs(level[0, 0] - 40) < abs(naive[0, 0] - 40)


def growing(daily: float, seasons: int = 10) -> Series:
    """A ramp each season, each season `daily` times the one before it; no noise."""
    flat = ramps(seasons, noise=0.0)
    grown = daily ** (np.arange(len(flat)) // SEASON)
    return Series(flat.start, flat.step, flat.values * grown)


def test_the_drift_follows_a_service_that_falls_by_a_tenth_a_season() -> None:
    series, shape = growing(0.9), SeriesShape(SEASON, 1, SEASON)
    origin, steps = np.array([9 * SEASON - 10]), np.array([SEASON])
    truth = series.values[9 * SEASON - 10 + SEASON]
    drift = fit(SeasonalDrift(), series, shape).predict(series, origin, steps, LEVELS)[0, 0, 0]
    naive = fit(SeasonalNaive(), series, shape).predict(series, origin, steps, (0.5,))[0, 0, 0]
    assert truth < drift < naive
    assert drift - truth < 0.7 * (naive - truth)


def test_the_drift_repeats_a_service_that_does_not_change_and_its_peaks() -> None:
    series, shape = ramps(10, noise=0.0), SeriesShape(SEASON, 1, SEASON)
    model = fit(SeasonalDrift(), series, shape)
    origins, horizons = np.arange(8 * SEASON, 9 * SEASON), np.array([1, 7, SEASON])
    predicted = model.predict(series, origins, horizons, LEVELS)
    came = series.values[origins[:, None] + horizons]
    np.testing.assert_allclose(predicted[:, :, 0], came)
    np.testing.assert_allclose(model.peak(series, origins[:1], SEASON, LEVELS), [[20.0, 20.0]])


def test_weekly_drift_follows_a_weekly_day_of_rest() -> None:
    """Every seventh season has a third of the demand; an origin lies in the season before one."""
    series = ramps(21, noise=0.0)
    resting = np.where(np.arange(21) % 7 == 6, 1 / 3, 1.0).repeat(SEASON)
    weekly = Series(series.start, series.step, series.values * resting)
    origin, steps = np.array([20 * SEASON - 1]), np.array([SEASON // 2])
    shape = SeriesShape(SEASON, 1, SEASON)
    ago = fit(SeasonalDrift(A_WEEK_AGO, "weekly-drift"), weekly, shape)
    recent = fit(SeasonalDrift(), weekly, shape)
    truth = weekly.values[20 * SEASON - 1 + SEASON // 2]
    assert ago.predict(weekly, origin, steps, LEVELS)[0, 0, 0] == pytest.approx(truth)
    assert recent.predict(weekly, origin, steps, LEVELS)[0, 0, 0] > 2 * truth


@pytest.mark.parametrize("seasons", [tuple(range(1, 8)), A_WEEK_AGO])
@pytest.mark.parametrize("times", [0.3, 3.0])
def test_anomalous_day_is_clipped_in_the_next_forecast(
    seasons: tuple[int, ...], times: float
) -> None:
    """Demand is low or high for one day and normal on the next; origins lie in the anomalous
    one's last hours. Whoever repeats or levels it errs by more than the drift that doubts it."""
    series, shape = ramps(21), SeriesShape(SEASON, 1, SEASON)
    odd = slice(19 * SEASON, 20 * SEASON)
    values = series.values.copy()
    values[odd] *= times
    changed = Series(series.start, series.step, values)
    origins = np.arange(20 * SEASON - 12, 20 * SEASON)
    truth = series.values[origins + SEASON]
    model = fit(SeasonalDrift(seasons), changed, shape)
    predicted = model.predict(changed, origins, np.array([SEASON]), (0.5,))[:, 0, 0]
    scale = RootScale.of(changed)
    level = scale.to(values[odd]).mean() - scale.to(series.values[odd]).mean()
    taken_at_its_word = scale.back(scale.to(truth) + 0.5 * level)
    assert np.abs(predicted - truth).mean() < 0.5 * np.abs(taken_at_its_word - truth).mean()


def test_lasting_change_is_followed_within_the_week() -> None:
    """Demand doubles for good: eight days later it is repeated as it is."""
    series, shape = ramps(30), SeriesShape(SEASON, 1, SEASON)
    lasting = np.where(np.arange(len(series)) >= 20 * SEASON, 2.0, 1.0)
    changed = Series(series.start, series.step, series.values * lasting)
    model = fit(SeasonalDrift(), changed, shape)
    origins = np.arange(28 * SEASON, 29 * SEASON)
    predicted = model.predict(changed, origins, np.array([SEASON]), (0.5,))[:, 0, 0]
    assert predicted.mean() == pytest.approx(changed.values[origins + SEASON].mean(), rel=0.1)


def test_before_the_week_is_full_the_drift_repeats_the_nearest_season() -> None:
    series, shape = ramps(4, noise=0.0), SeriesShape(SEASON, 1, SEASON)
    model = fit(SeasonalDrift(A_WEEK_AGO, "weekly-drift"), series, shape)
    origin = np.array([3 * SEASON - 5])
    predicted = model.predict(series, origin, np.array([SEASON]), LEVELS)
    np.testing.assert_allclose(predicted, series.values[origin][0])


def test_seasonal_level_is_the_last_value_without_a_season() -> None:
    rng = np.random.default_rng(0)
    walk = 50 + np.cumsum(rng.normal(0, 1, 1000))
    series = Series(0, 1, np.maximum(walk, 1))
    model = fit(SeasonalLevel(), series.head(700), SeriesShape(SEASON, 3, 5))
    origins = np.arange(750, 990, 7)
    point = model.predict(series, origins, np.array([1]), (0.5,))[:, 0, 0]
    assert np.abs(point - series.values[origins]).mean() < 1.5


SMALL = Lstm(units=8, epochs=25, max_windows=400)


@pytest.fixture(scope="module")
def small_lstm() -> FittedLstm:
    fitted = SMALL.fit(ramps(8), SeriesShape(SEASON, 5, 10))
    assert isinstance(fitted, FittedLstm)
    return fitted


def test_the_lstm_learns_the_ramp(small_lstm: FittedLstm) -> None:
    series = ramps(11, seed=9)
    before, quiet = int(10.5 * SEASON) - 3, int(10.1 * SEASON)
    peak = small_lstm.peak(series, np.array([quiet, before]), 5, LEVELS)
    assert peak[0, 1] < 8
    assert peak[1, 0] > 12


def test_the_lstm_predicts_with_numpy_what_torch_would(small_lstm: FittedLstm) -> None:
    torch = pytest.importorskip("torch")
    series = ramps(9)
    origins = np.arange(100, 400, 11)
    inputs = build_inputs(
        series,
        origins,
        scale=small_lstm.scale,
        unit=small_lstm.unit,
        season=SEASON,
        knots=small_lstm.knots,
    )
    w = small_lstm.weights
    lstm = torch.nn.LSTM(inputs.context.shape[2], SMALL.units, batch_first=True).double()
    with torch.no_grad():
        lstm.weight_ih_l0.copy_(torch.tensor(w.weight_ih))
        lstm.weight_hh_l0.copy_(torch.tensor(w.weight_hh))
        lstm.bias_ih_l0.copy_(torch.tensor(w.bias))
        lstm.bias_hh_l0.zero_()
        state = lstm(torch.tensor(inputs.context))[1][0][0].numpy()
    hidden = np.maximum(np.concatenate([state, inputs.side], 1) @ w.hidden_w.T + w.hidden_b, 0)
    expected = hidden @ w.out_w.T + w.out_b
    np.testing.assert_allclose(w.forward(inputs.context, inputs.side), expected, atol=1e-9)


def test_the_lstm_gives_the_same_for_the_same_seed() -> None:
    tiny = Lstm(units=4, epochs=2, max_windows=150)
    series, shape = ramps(4), SeriesShape(SEASON, 5, 10)
    origin = np.array([len(series) - 1])
    one, two = (fit(tiny, series, shape).peak(series, origin, 5, LEVELS) for _ in range(2))
    np.testing.assert_array_equal(one, two)


def test_a_fitted_lstm_travels_between_processes(small_lstm: FittedLstm) -> None:
    series, origin = ramps(9), np.array([400])
    copy = pickle.loads(pickle.dumps(small_lstm))
    np.testing.assert_array_equal(
        copy.peak(series, origin, 5, LEVELS), small_lstm.peak(series, origin, 5, LEVELS)
    )


@pytest.mark.parametrize(
    ("series", "reason"),
    [
        (ramps(1.5), UnavailableReason.TOO_LITTLE_HISTORY),
        (Series(0, 1, np.zeros(500)), UnavailableReason.NO_DATA),
        (Series(0, 1, np.full(500, np.nan)), UnavailableReason.NO_DATA),
    ],
)
def test_lstm_returns_a_reason_for_untrainable_history(
    series: Series, reason: UnavailableReason
) -> None:
    refused = SMALL.fit(series, SeriesShape(SEASON, 5, 10))
    assert isinstance(refused, ForecastUnavailable)
    assert refused.reason is reason


@pytest.fixture(scope="module")
def drawn() -> FittedProphet:
    """A season of 48 seconds: on Prophet's clock that is a day."""
    fitted = ProphetForecaster().fit(ramps(6), SeriesShape(SEASON, 5, 10))
    assert isinstance(fitted, FittedProphet)
    return fitted


def test_prophet_learns_a_season_of_any_length(drawn: FittedProphet) -> None:
    series = ramps(8)
    before, quiet = int(7.5 * SEASON) - 3, int(7.2 * SEASON)
    peak = drawn.peak(series, np.array([quiet, before]), 5, LEVELS)
    assert peak[0, 0] < 6
    assert peak[1, 0] > 9


def test_prophet_is_scaled_to_the_current_level(drawn: FittedProphet) -> None:
    series = ramps(8)
    origin, ahead = np.array([int(7.2 * SEASON)]), np.array([3])
    twice = Series(series.start, series.step, series.values * 2)
    one = drawn.predict(series, origin, ahead, LEVELS)
    two = drawn.predict(twice, origin, ahead, LEVELS)
    np.testing.assert_allclose(two, 2 * one)


def test_prophet_has_no_value_beyond_its_curve(drawn: FittedProphet) -> None:
    late = Series(drawn.trained_until + 1e5, 1.0, np.ones(30))
    assert np.isnan(drawn.peak(late, np.array([29]), 5, LEVELS)).all()


def test_prophet_needs_two_seasons_and_some_demand() -> None:
    shape = SeriesShape(SEASON, 5, 10)
    for series in (ramps(1.5), Series(0, 1, np.zeros(500)), Series(0, 1, np.full(500, np.nan))):
        assert isinstance(ProphetForecaster().fit(series, shape), ForecastUnavailable)


def test_the_root_scale_comes_back() -> None:
    values = np.array([0.0, 0.3, 7.0, 1e6])
    np.testing.assert_allclose(RootScale(0.1).back(RootScale(0.1).to(values)), values, atol=1e-9)


def test_season_ahead_models_are_fitted_for_a_season_ahead_only() -> None:
    series = ramps(10)
    near = fit_quick(series, SeriesShape(SEASON, 5, 10))
    far = fit_quick(series, SeriesShape(SEASON, 5, SEASON))
    assert set(far) - set(near) == {"seasonal-drift", "weekly-drift"}

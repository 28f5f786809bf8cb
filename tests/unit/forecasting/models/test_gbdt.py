"""Boosted trees: numpy evaluates LightGBM's forest; random data trains few trees."""

from __future__ import annotations

import lightgbm
import numpy as np
import pytest

from r1_forecasting.models.baselines.damped_trend import DampedTrend, FittedDampedTrend
from r1_forecasting.models.boosted_trees.gbdt import FittedGbdt, Gbdt
from r1_forecasting.models.boosted_trees.trees import forest_of
from r1_forecasting.models.target import Target
from r1_forecasting.series.series import Series
from r1_forecasting.series.shape import SeriesShape
from r1_forecasting.unavailable import ForecastUnavailable, UnavailableReason

SEASON = 48
SHAPE = SeriesShape(SEASON, lead=5, horizon=10)
SMALL = Gbdt(trees=60)


def ramps(seasons: float, seed: int = 3) -> Series:
    """2 per second, 20 in the third quarter of each season."""
    count = round(seasons * SEASON)
    phase = np.arange(count) % SEASON / SEASON
    level = np.where((phase >= 0.5) & (phase < 0.75), 20.0, 2.0)
    return Series(
        1_700_000_016.0, 1.0, level * np.random.default_rng(seed).gamma(400, 1 / 400, count)
    )


@pytest.fixture(scope="module")
def grown() -> FittedGbdt:
    fitted = SMALL.fit(ramps(12), SHAPE)
    assert isinstance(fitted, FittedGbdt)
    return fitted


@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_numpy_reads_the_forest_that_lightgbm_grew(missing: float) -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(2000, 6))
    features[rng.random(features.shape) < missing] = np.nan
    label = np.nan_to_num(features[:, 0]) + np.isnan(features[:, 1]) + features[:, 2].clip(0) ** 2
    label = np.nan_to_num(label)
    options = {
        "objective": "quantile",
        "alpha": 0.5,
        "num_leaves": 7,
        "verbose": -1,
        "num_threads": 1,
    }
    booster = lightgbm.train(options, lightgbm.Dataset(features, label=label), 40)
    mine = forest_of(booster.dump_model()).predict(features)
    np.testing.assert_allclose(mine, booster.predict(features), atol=1e-9)
    assert len(forest_of(booster.dump_model()).predict(features[:0])) == 0


def test_a_forest_without_a_split_is_its_constant() -> None:
    options = {"objective": "quantile", "alpha": 0.5, "verbose": -1, "num_threads": 1}
    flat = lightgbm.Dataset(np.zeros((100, 1)), label=np.full(100, 3.0))
    booster = lightgbm.train(options, flat, 3)
    mine = forest_of(booster.dump_model()).predict(np.zeros((2, 1)))
    np.testing.assert_allclose(mine, booster.predict(np.zeros((2, 1))))


def test_trees_forecast_the_ramp_before_its_start(grown: FittedGbdt) -> None:
    series = ramps(14, seed=9)
    before, quiet = int(13.5 * SEASON) - 3, int(13.1 * SEASON)
    peak = grown.peak(series, np.array([quiet, before]), 5, (0.5, 0.9))
    assert peak[0, 1] < 6
    assert peak[1, 0] > 11  # half-way up at the least


def test_trees_interpolate_between_trained_horizons(grown: FittedGbdt) -> None:
    series = ramps(13)
    origin = np.array([len(series) - 1])
    predicted = grown.predict(series, origin, np.array([1, 2, 5, 10, 400]), (0.1, 0.5, 0.9, 0.95))
    assert np.isfinite(predicted).all()
    assert (np.diff(predicted[0], axis=1) >= 0).all()


@pytest.mark.parametrize(
    ("series", "reason"),
    [
        (ramps(1.5), UnavailableReason.TOO_LITTLE_HISTORY),
        (Series(0, 1, np.zeros(500)), UnavailableReason.NO_DATA),
        (Series(0, 1, np.full(500, 7.0)), UnavailableReason.NO_DATA),
        (Series(0, 1, np.full(500, np.nan)), UnavailableReason.TOO_LITTLE_HISTORY),
    ],
)
def test_trees_return_a_reason_for_untrainable_history(
    series: Series, reason: UnavailableReason
) -> None:
    refused = SMALL.fit(series, SHAPE)
    assert isinstance(refused, ForecastUnavailable)
    assert refused.reason is reason


def test_random_walk_trains_few_trees() -> None:
    walk = 50 + np.cumsum(np.random.default_rng(0).normal(0, 1, 1000))
    target = Target(5, peak=False)
    fitted = Gbdt((target,)).fit(Series(0, 1, np.maximum(walk, 1)), SHAPE)
    assert isinstance(fitted, FittedGbdt)
    assert len(fitted.forests[target][0].leaf) < Gbdt().trees


def test_the_damped_trend_smooths_noise_and_follows_a_climb() -> None:
    noise = Series(0, 1, np.random.default_rng(1).gamma(10, 1.0, 600))
    smooth = DampedTrend().fit(noise, SHAPE)
    assert isinstance(smooth, FittedDampedTrend)
    assert smooth.alpha < 0.3
    climb = Series(0, 1, np.linspace(1, 600, 600))
    steep = DampedTrend().fit(climb, SHAPE)
    assert isinstance(steep, FittedDampedTrend)
    ahead = steep.predict(climb, np.array([500]), np.array([5]), (0.5,))[0, 0, 0]
    assert ahead > climb.values[500]

"""Backtest: coverage, ranking by decision cost, bounded cost of a wrong model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from r1_forecasting.arrays import FloatArray, IntArray
from r1_forecasting.models.baselines.last_value import LastValue
from r1_forecasting.models.baselines.seasonal_level import SeasonalLevel
from r1_forecasting.models.baselines.seasonal_naive import SeasonalNaive
from r1_forecasting.models.protocol import Fitted
from r1_forecasting.selection import backtest
from r1_forecasting.selection.gate import GateReason, decide
from r1_forecasting.series.series import Series
from r1_forecasting.series.shape import SeriesShape
from r1_forecasting.unavailable import ForecastUnavailable

SEASON = 96
SHAPE = SeriesShape(SEASON, lead=4, horizon=8)
LEVELS = (0.5, 0.9, 0.95)


def recurring(seasons: int = 10, seed: int = 5) -> Series:
    """A steep daily ramp with proportional noise."""
    at = np.arange(seasons * SEASON)
    level = 5 + 25 * np.clip(np.sin(2 * np.pi * at / SEASON) * 4, 0, 1)
    return Series(0, 1, level * np.random.default_rng(seed).gamma(100, 0.01, len(at)))


def wandering(seed: int = 5) -> Series:
    """No season at all."""
    steps = np.random.default_rng(seed).normal(0, 0.03, 960)
    return Series(0, 1, 30 * np.exp(np.cumsum(steps) - np.linspace(0, np.sum(steps), 960)))


@dataclass(frozen=True)
class Wrong:
    """The seasonal naive, times a factor: a broken model."""

    factor: float
    base: Fitted
    name: str = "wrong"
    trained_until: float = -np.inf

    def predict(
        self, series: Series, origins: IntArray, horizons: IntArray, levels: Sequence[float]
    ) -> FloatArray:
        return self.base.predict(series, origins, horizons, levels) * self.factor

    def peak(
        self, series: Series, origins: IntArray, steps: int, levels: Sequence[float]
    ) -> FloatArray:
        return self.base.peak(series, origins, steps, levels) * self.factor


def test_seasonal_naive_opens_the_gate_on_a_recurring_ramp() -> None:
    board = backtest.run(recurring(), [SeasonalNaive()], SHAPE)
    gate = decide(board.costs())
    assert gate.open
    assert (gate.model, gate.reason) == ("seasonal-naive", GateReason.BEATS_LAST_VALUE)
    assert gate.scores["seasonal-naive"] < 0.5


def test_gate_stays_closed_without_a_season() -> None:
    board = backtest.run(wandering(), [SeasonalNaive()], SHAPE)
    gate = decide(board.costs())
    assert (gate.open, gate.reason) == (False, GateReason.NO_MODEL_BEATS_LAST_VALUE)
    assert gate.scores["seasonal-naive"] > 1


@pytest.mark.parametrize("series", [recurring(), wandering()])
def test_calibrated_shares_hold_for_every_model(series: Series) -> None:
    board = backtest.run(series, [SeasonalNaive(), SeasonalLevel()], SHAPE)
    assert set(board.models) == {"last-value", "seasonal-naive", "seasonal-level", "mixture"}
    for name, track in board.models.items():
        known = np.count_nonzero(~np.isnan(track.cost))
        for level, share in board.coverage(name).items():
            # A few hundred overlapping windows: three standard errors of a quarter of them.
            doubt = 3 * float(np.sqrt(level * (1 - level) / (known / 4)))
            assert share == pytest.approx(level, abs=doubt), (name, level)


@pytest.mark.parametrize("factor", [0.1, 10.0])
def test_model_wrong_by_a_factor_of_ten_is_corrected_or_not_used(factor: float) -> None:
    series = recurring()
    base = SeasonalNaive().fit(series, SHAPE)
    assert not isinstance(base, ForecastUnavailable)
    fitted: dict[str, Fitted] = {"last-value": LastValue(), "wrong": Wrong(factor, base)}
    board = backtest.score(series, fitted, SHAPE, LEVELS, decision_level=0.9)
    highest = float(np.nanmax(series.values))
    assert np.nanmax(board.models["wrong"].issued) <= backtest.CEILING * highest
    assert board.gated_cost() <= 1.1


def test_model_that_breaks_while_in_use_costs_a_bounded_amount() -> None:
    """In the last season the model is ten times too high."""
    series = recurring()
    base = SeasonalNaive().fit(series, SHAPE)
    assert not isinstance(base, ForecastUnavailable)

    @dataclass(frozen=True)
    class Breaking(Wrong):
        def peak(
            self, series: Series, origins: IntArray, steps: int, levels: Sequence[float]
        ) -> FloatArray:
            predicted = self.base.peak(series, origins, steps, levels)
            predicted[origins >= 9 * SEASON] *= 10
            return predicted

    fitted: dict[str, Fitted] = {"last-value": LastValue(), "wrong": Breaking(10, base)}
    board = backtest.score(series, fitted, SHAPE, LEVELS, decision_level=0.9)
    # Kept capacity never passes the ceiling, and the rolling correction follows in a season.
    assert np.nanmax(board.models["wrong"].issued) <= backtest.CEILING * np.nanmax(series.values)


def test_being_short_costs_nine_times_being_over() -> None:
    short = backtest.decision_cost(np.array([9.0]), np.array([10.0]), 0.9)
    over = backtest.decision_cost(np.array([10.0]), np.array([9.0]), 0.9)
    assert short[0] == pytest.approx(9 * over[0])


def test_a_model_is_never_scored_on_what_it_was_trained_on() -> None:
    board = backtest.run(recurring(), [SeasonalLevel()], SHAPE, train_share=0.6)
    in_sample = board.origins < int(0.6 * 10 * SEASON)
    assert np.isnan(board.models["seasonal-level"].cost[in_sample]).all()
    assert not np.isnan(board.models["last-value"].cost[in_sample]).all()


@pytest.mark.parametrize(("length", "season"), [(2016, 144.0), (20160, 1440.0), (59040, 1440.0)])
def test_origins_do_not_alias_with_the_season(length: int, season: float) -> None:
    origins = backtest.choose_origins(length, season, 600)
    stride = int(origins[1] - origins[0])
    assert len(origins) <= 601
    assert origins[-1] == length - 1
    assert round(season) % stride != 0 or stride == 1


def test_models_that_cannot_be_fitted_are_named_and_the_rest_is_scored() -> None:
    board = backtest.run(recurring(2), [SeasonalNaive(), SeasonalLevel()], SHAPE)
    assert set(board.failures) == {"seasonal-naive", "seasonal-level"}
    assert set(board.models) == {"last-value"}


def test_levels_that_do_not_ascend_are_refused() -> None:
    with pytest.raises(ValueError, match="ascend"):
        backtest.score(
            recurring(3), {"last-value": LastValue()}, SHAPE, (0.9, 0.5), decision_level=0.9
        )

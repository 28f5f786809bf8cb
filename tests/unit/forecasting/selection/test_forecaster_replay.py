"""Replay of a window: every position, valid coverage, no look-ahead."""

from __future__ import annotations

import numpy as np
import pytest

from r1_forecasting.models.baselines.seasonal_level import SeasonalLevel
from r1_forecasting.models.baselines.seasonal_naive import SeasonalNaive
from r1_forecasting.selection.replay import replay_peaks
from r1_forecasting.series.series import Series
from r1_forecasting.series.shape import SeriesShape
from r1_forecasting.series.windows import future_peak

SEASON = 96
SHAPE = SeriesShape(SEASON, lead=4, horizon=4)
LEVELS = (0.5, 0.9, 0.95)
QUICK = (SeasonalNaive(), SeasonalLevel())


def recurring(seasons: int = 14, seed: int = 5) -> Series:
    """A steep daily ramp with proportional noise."""
    at = np.arange(seasons * SEASON)
    level = 5 + 25 * np.clip(np.sin(2 * np.pi * at / SEASON) * 4, 0, 1)
    return Series(0, 1, level * np.random.default_rng(seed).gamma(100, 0.01, len(at)))


def test_replay_has_values_at_every_position_and_valid_coverage() -> None:
    series = recurring()
    made = replay_peaks(series, SHAPE, test_from=8 * SEASON, levels=LEVELS, models=QUICK)
    assert made.origins.tolist() == list(range(8 * SEASON, len(series)))
    assert made.peaks.shape == (len(made.origins), len(LEVELS))
    assert made.gate_open.mean() > 0.9
    actual = future_peak(series.values, made.origins, SHAPE.lead)
    known = ~np.isnan(actual)
    shares = (actual[known, None] <= made.peaks[known]).mean(axis=0)
    np.testing.assert_allclose(shares, LEVELS, atol=0.06)


def test_later_data_changes_no_earlier_forecast() -> None:
    series = recurring()
    cut = 11 * SEASON
    other = Series(0, 1, np.concatenate([series.values[:cut], 99 + series.values[cut:]]))
    one, two = (
        replay_peaks(s, SHAPE, test_from=8 * SEASON, levels=LEVELS, models=QUICK)
        for s in (series, other)
    )
    before = one.origins < cut
    np.testing.assert_array_equal(one.peaks[before], two.peaks[before])
    np.testing.assert_array_equal(one.gate_open[before], two.gate_open[before])


def test_too_little_history_gives_no_peaks_and_a_closed_gate() -> None:
    made = replay_peaks(recurring(1).head(20), SHAPE, test_from=5, levels=LEVELS, models=QUICK)
    assert np.isnan(made.peaks).all()
    assert not made.gate_open.any()


@pytest.mark.parametrize("test_from", [0, 960])
def test_a_window_outside_the_series_is_refused(test_from: int) -> None:
    with pytest.raises(ValueError, match="test_from"):
        replay_peaks(recurring(10), SHAPE, test_from=test_from, levels=LEVELS, models=QUICK)

"""Conformal calibration: coverage, order of quantiles, ceiling."""

from __future__ import annotations

import numpy as np

from r1_forecasting.calibration import conformal
from r1_forecasting.calibration.adaptive import adaptive_offsets
from r1_forecasting.calibration.root_scale import RootScale
from r1_forecasting.selection.ensemble import window_offset

SCALE = RootScale(0.01)


def test_biased_point_forecast_becomes_quantiles_with_coverage() -> None:
    rng = np.random.default_rng(1)
    actual = rng.gamma(20, 1.0, 4000)
    raw = np.full((4000, 2), 5.0)  # far too low, and no spread at all
    errors = conformal.scores(raw, actual, SCALE)
    offsets = adaptive_offsets(errors, np.arange(4000), 1, window=300, levels=(0.5, 0.9))
    issued = conformal.corrected(raw, offsets, SCALE, np.array(np.inf))
    known = ~np.isnan(issued[:, 0])
    share = (actual[known, None] <= issued[known]).mean(axis=0)
    np.testing.assert_allclose(share, [0.5, 0.9], atol=0.02)


def test_only_the_newest_seasons_correct_a_point() -> None:
    errors = np.concatenate([np.full((300, 1), 100.0), np.zeros((200, 1))])
    assert window_offset(errors, np.arange(500), 1, 60.0, (0.9,))[0] == 0.0
    assert window_offset(errors[:300], np.arange(300), 1, 60.0, (0.9,))[0] == 100.0


def test_few_separate_outcomes_correct_a_point_more_widely_than_many() -> None:
    errors = np.linspace(-1.0, 1.0, 100)[:, None]
    near, far = (window_offset(errors, np.arange(100), k, 25.0, (0.9,))[0] for k in (1, 25))
    assert far > near > 0.8


def test_too_few_scores_calibrate_nothing() -> None:
    few = conformal.MIN_SCORES - 1
    assert np.isnan(window_offset(np.zeros((few, 1)), np.arange(few), 1, 60.0, (0.9,))[0])
    assert window_offset(np.zeros((few + 1, 1)), np.arange(few + 1), 1, 60.0, (0.9,))[0] == 0.0
    assert np.isnan(window_offset(np.zeros((0, 1)), np.arange(0), 1, 60.0, (0.9,))[0])


def test_quantiles_never_cross_nor_pass_the_ceiling() -> None:
    raw = np.array([[4.0, 4.0, 4.0]])
    out = conformal.corrected(raw, np.array([1.0, -1.0, 9.0]), SCALE, np.array(20.0))
    assert out[0, 0] <= out[0, 1] <= out[0, 2] == 20.0


def test_one_unknown_level_makes_the_row_unknown() -> None:
    out = conformal.corrected(np.array([[4.0, np.nan]]), np.zeros(2), SCALE, np.array(9.0))
    assert np.isnan(out).all()

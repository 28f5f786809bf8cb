"""Calibration around any model: shares that hold, order, a ceiling."""

from __future__ import annotations

import numpy as np

from r1_forecasting import conformal
from r1_forecasting.scale import RootScale

SCALE = RootScale(0.01)


def test_a_biased_point_forecast_becomes_quantiles_that_hold() -> None:
    rng = np.random.default_rng(1)
    actual = rng.gamma(20, 1.0, 4000)
    raw = np.full((4000, 2), 5.0)  # far too low, and no spread at all
    errors = conformal.scores(raw, actual, SCALE)
    moments = np.arange(4000)
    offsets = conformal.rolling_offsets(errors, moments, window=300, levels=(0.5, 0.9))
    issued = conformal.corrected(raw, offsets, SCALE, np.array(np.inf))
    known = ~np.isnan(issued[:, 0])
    share = (actual[known, None] <= issued[known]).mean(axis=0)
    np.testing.assert_allclose(share, [0.5, 0.9], atol=0.02)


def test_only_scores_already_known_are_used() -> None:
    errors = np.concatenate([np.zeros((30, 1)), np.full((30, 1), 100.0)])
    offsets = conformal.rolling_offsets(errors, np.array([30, 60]), window=30, levels=(0.9,))
    assert offsets[:, 0].tolist() == [0.0, 100.0]


def test_too_few_scores_calibrate_nothing() -> None:
    assert np.isnan(conformal.offset(np.zeros((conformal.FEWEST - 1, 1)), (0.9,))[0])
    assert conformal.offset(np.zeros((conformal.FEWEST, 1)), (0.9,))[0] == 0.0
    assert np.isnan(conformal.offset(np.zeros((0, 1)), (0.9,))[0])


def test_the_rank_is_the_finite_sample_one() -> None:
    """Of 20 scores, level .9 takes the ceil(21 x .9) = 19th, not the 18th."""
    errors = np.arange(1.0, 21.0)[:, None]
    assert conformal.offset(errors, (0.9,))[0] == 19.0


def test_quantiles_never_cross_nor_pass_the_ceiling() -> None:
    raw = np.array([[4.0, 4.0, 4.0]])
    out = conformal.corrected(raw, np.array([1.0, -1.0, 9.0]), SCALE, np.array(20.0))
    assert out[0, 0] <= out[0, 1] <= out[0, 2] == 20.0


def test_one_unknown_level_makes_the_row_unknown() -> None:
    out = conformal.corrected(np.array([[4.0, np.nan]]), np.zeros(2), SCALE, np.array(9.0))
    assert np.isnan(out).all()

"""Sampling of a load with periods of its own."""

import numpy as np
import pytest

from r1_forecasting.calibration.root_scale import RootScale
from r1_forecasting.selection.ensemble import calibrate
from r1_forecasting.selection.sampling_strides import stride_from, stride_near


@pytest.mark.parametrize(
    ("least", "season", "stride"), [(1, 1440, 1), (2, 288, 5), (10, 1440, 11), (37, 1440, 37)]
)
def test_a_stride_is_a_prime_that_does_not_divide_the_season(
    least: int, season: int, stride: int
) -> None:
    assert stride_from(least, season) == stride


@pytest.mark.parametrize(
    ("wished", "season", "stride"),
    [
        (1, 1440, 1),
        (2, 288, 1),
        (10, 1440, 11),
        (30, 1440, 29),
        (6, 288, 5),
        (3, 144, 1),
        (4, 1, 4),
    ],
)
def test_the_nearest_stride_shares_no_factor_with_the_season(
    wished: int, season: int, stride: int
) -> None:
    assert stride_near(wished, season) == stride


@pytest.mark.parametrize("phase", range(0, 10, 3))
def test_coverage_holds_at_each_minute_of_a_ten_minute_period(phase: int) -> None:
    """Bursts at one minute of ten: a stride of ten minutes samples all or none of them."""
    rng = np.random.default_rng(5)
    minutes = 14 * 1440
    spread = np.where(np.arange(minutes) % 10 == phase, 30.0, 3.0)
    demand = 400.0 + spread * rng.standard_normal(minutes)
    levels = (0.5, 0.9, 0.95)
    raw = np.repeat(np.full((minutes, 1), 400.0), len(levels), axis=1)
    scale = RootScale(4.0)
    offsets = calibrate(
        raw, demand, np.arange(minutes), 5, season=1440.0, levels=levels, scale=scale
    )
    predicted = scale.back(scale.to(raw) + offsets)
    late = slice(4 * 1440, None)
    covered = (demand[late] <= predicted[late, 1]).mean()
    assert 0.87 <= covered <= 0.93

"""Windows ahead and seasonal lags on small cases."""

from __future__ import annotations

import numpy as np
import pytest

from r1_forecasting.series.windows import future_peak, knots, row_quantiles, seasonal


def test_the_peak_ahead_excludes_the_present_and_ends_with_the_series() -> None:
    values = np.array([9.0, 1.0, 5.0, 2.0])
    peaks = future_peak(values, np.array([0, 1, 2]), 2)
    assert peaks[:2].tolist() == [5.0, 5.0]
    assert np.isnan(peaks[2])


def test_a_window_mostly_unobserved_has_no_peak() -> None:
    values = np.array([0.0, np.nan, np.nan, 4.0, 1.0])
    assert np.isnan(future_peak(values, np.array([0]), 3)[0])
    assert future_peak(values, np.array([2]), 2)[0] == 4.0


def test_earlier_seasons_come_nearest_first() -> None:
    values = np.arange(12.0)
    past = seasonal(values, np.array([10]), np.array([1, 2]), season=4, seasons=3)
    assert past[0, 0].tolist() == [7.0, 3.0, pytest.approx(np.nan, nan_ok=True)]
    assert past[0, 1].tolist() == [8.0, 4.0, 0.0]


def test_a_horizon_beyond_a_season_never_reads_past_the_origin() -> None:
    values = np.arange(20.0)
    past = seasonal(values, np.array([11]), np.array([5, 8]), season=4, seasons=2)
    assert past[0, 0].tolist() == [8.0, 4.0]
    assert past[0, 1].tolist() == [11.0, 7.0]


def test_a_season_need_not_be_a_whole_number_of_steps() -> None:
    values = np.arange(40.0)
    past = seasonal(values, np.array([35]), np.array([1]), season=7.2, seasons=3)
    assert past[0, 0].tolist() == [29.0, 22.0, 14.0]


def test_row_quantiles_agree_with_numpy_and_leave_gaps_out() -> None:
    rng = np.random.default_rng(7)
    rows = rng.random((50, 9))
    rows[rng.random((50, 9)) < 0.3] = np.nan
    rows[3] = np.nan
    levels = (0.1, 0.5, 0.95)
    ours = row_quantiles(rows, levels)
    assert np.isnan(ours[3]).all()
    some = np.delete(np.arange(50), 3)
    np.testing.assert_allclose(ours[some], np.nanquantile(rows[some], levels, axis=1).T)


@pytest.mark.parametrize("longest", [1, 2, 7, 60, 1440])
def test_knots_run_from_one_to_the_longest(longest: int) -> None:
    lengths = knots(longest)
    assert lengths[0] == 1
    assert lengths[-1] == longest
    assert (np.diff(lengths) > 0).all()

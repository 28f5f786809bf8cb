"""Series from late, duplicate and missing samples, and after restarts."""

from __future__ import annotations

import numpy as np
import pytest

from r1_forecasting.series.series import Series, from_samples, merge, rates, resample
from r1_forecasting.unavailable import ForecastUnavailable, UnavailableReason


def series_of(samples: list[tuple[float, float]], step: float, until: float = 1e9) -> Series:
    made = from_samples(samples, step, until=until)
    assert isinstance(made, Series)
    return made


def test_samples_fall_on_a_grid_anchored_in_unix_time() -> None:
    made = series_of([(61.0, 1.0), (119.0, 3.0), (120.0, 5.0)], step=60)
    assert made.start == 60
    assert made.values.tolist() == [2.0, 5.0]


def test_a_missing_step_is_a_gap_and_not_a_zero() -> None:
    made = series_of([(0.0, 1.0), (180.0, 2.0)], step=60)
    assert np.isnan(made.values).tolist() == [False, True, True, False]
    assert made.observed == 2
    assert made.last() == (180.0, 2.0)


def test_unusable_samples_are_dropped() -> None:
    made = series_of(
        [(0, 1.0), (1, np.nan), (2, np.inf), (3, -np.inf), (4, -1.0), (5, 6.0)], step=1
    )
    assert made.observed == 2


def test_history_without_usable_samples_is_no_data() -> None:
    nothing = from_samples([], 1, until=10)
    broken = from_samples([(1, np.nan), (20, 1.0)], 1, until=10)
    assert nothing == ForecastUnavailable(
        UnavailableReason.NO_DATA, "the query returned no samples"
    )
    assert isinstance(broken, ForecastUnavailable)
    assert "all 2 samples" in broken.message


def test_a_clock_set_back_neither_duplicates_nor_disorders() -> None:
    """One hour has samples twice, as after a clock correction: the later samples are used."""
    first = [(float(t), 1.0) for t in range(10)]
    again = [(float(t), 2.0) for t in range(5, 12)]
    made = series_of(first + again, step=1)
    assert made.values.tolist() == [1.0] * 5 + [2.0] * 7


def test_samples_from_the_future_are_dropped() -> None:
    made = series_of([(8.0, 1.0), (9.0, 1.0), (3600.0, 7.0)], step=1, until=10.0)
    assert made.end == 9.0


def test_fractional_steps_keep_every_sample_in_its_own_step() -> None:
    """A day in ten minutes: steps of 4.167 s."""
    step = 4.167
    made = series_of([(k * step, float(k)) for k in range(400_000_000, 400_002_000)], step, 1e10)
    assert len(made) == 2000
    assert np.diff(made.values).tolist() == [1.0] * 1999


def test_forward_fill_covers_short_gaps_only() -> None:
    made = Series(0, 1, np.array([np.nan, 1, np.nan, np.nan, np.nan, 2]))
    held = made.forward_filled(2)
    assert np.isnan(held[0])
    assert held[1:4].tolist() == [1, 1, 1]
    assert np.isnan(held[4])
    assert held[5] == 2


def test_a_refresh_overwrites_and_extends_and_trims() -> None:
    old = Series(0, 1, np.array([1.0, 2.0, np.nan, 4.0]))
    new = Series(2, 1, np.array([3.0, 5.0, 6.0]))
    both = merge(old, new, 4)
    assert both.start == 1
    assert both.values.tolist() == [2.0, 3.0, 5.0, 6.0]


def test_a_refresh_after_a_long_silence_leaves_a_gap() -> None:
    both = merge(Series(0, 1, np.ones(3)), Series(6, 1, np.ones(2)), 10)
    assert np.isnan(both.values).tolist() == [False] * 3 + [True] * 3 + [False] * 2


def test_a_refresh_after_a_silence_longer_than_the_history_starts_anew() -> None:
    both = merge(Series(0, 1, np.ones(3)), Series(1e6, 1, np.ones(2)), 10)
    assert both.start == 1e6


def test_series_of_different_steps_do_not_merge() -> None:
    with pytest.raises(ValueError, match="steps differ"):
        merge(Series(0, 1, np.ones(3)), Series(0, 2, np.ones(3)), 10)


def test_resampling_averages_blocks_from_the_end() -> None:
    coarse = resample(Series(0, 1, np.array([9, 1, 3, np.nan, 5, np.nan, np.nan])), 3)
    assert coarse.start == 1
    assert coarse.step == 3
    assert coarse.values[0] == 2.0
    assert np.isnan(coarse.values[1])


def test_a_counter_that_restarts_counts_from_zero() -> None:
    assert rates([(0, 100), (10, 200), (20, 30), (30, 50)]) == [(10, 10), (20, 3), (30, 2)]


def test_counter_readings_that_cannot_be_are_skipped() -> None:
    assert rates([(0, 1), (5, np.nan), (10, 11), (10, 12), (9, 13), (20, 33)]) == [
        (10, 1.0),
        (20, 20 / 11),
    ]


@pytest.mark.parametrize("step", [0.0, -1.0, float("nan")])
def test_a_step_that_is_no_length_is_refused(step: float) -> None:
    with pytest.raises(ValueError, match="step"):
        Series(0, step, np.ones(2))

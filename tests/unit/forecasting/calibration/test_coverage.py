"""Live coverage of issued peaks after their windows."""

from __future__ import annotations

import numpy as np

from r1_forecasting.calibration.coverage import CoverageTracker, IssuedPeak
from r1_forecasting.series.series import Series


def test_issued_peak_is_scored_after_its_window() -> None:
    coverage_tracker = CoverageTracker()
    coverage_tracker.record(IssuedPeak(origin=2.0, steps=2, quantiles=((0.5, 3.5), (0.9, 4.0))))
    series = Series(0, 1, np.array([1.0, 2, 3, 4, 3]))
    coverage_tracker.settle(series.head(4))
    assert coverage_tracker.live(0.9) == (None, 0)
    coverage_tracker.settle(series)
    assert coverage_tracker.live(0.9) == (1.0, 1)
    assert coverage_tracker.live(0.5) == (0.0, 1)
    coverage_tracker.settle(series)
    assert coverage_tracker.live(0.9) == (1.0, 1)


def test_one_origin_is_recorded_once() -> None:
    coverage_tracker = CoverageTracker()
    for quantile in (1.0, 9.0):
        coverage_tracker.record(IssuedPeak(0.0, 1, ((0.9, quantile),)))
    coverage_tracker.settle(Series(0, 1, np.array([0.0, 5.0])))
    assert coverage_tracker.live(0.9) == (0.0, 1)


def test_a_window_that_was_not_observed_is_not_counted() -> None:
    coverage_tracker = CoverageTracker()
    coverage_tracker.record(IssuedPeak(0.0, 2, ((0.9, 1.0),)))
    coverage_tracker.settle(Series(0, 1, np.array([0.0, np.nan, np.nan, 1.0])))
    assert coverage_tracker.live(0.9) == (None, 0)
    assert not coverage_tracker.pending


def settled(hits: int, misses: int) -> CoverageTracker:
    coverage_tracker = CoverageTracker()
    count = hits + misses
    for i in range(count):
        coverage_tracker.record(
            IssuedPeak(float(i), 1, ((0.9, 1.0 if i % count < hits else -1.0),))
        )
    coverage_tracker.settle(Series(0, 1, np.zeros(count + 1)))
    return coverage_tracker


def test_coverage_is_lost_only_beyond_doubt() -> None:
    assert not settled(88, 12).lost(0.9, overlap=1)
    assert settled(60, 40).lost(0.9, overlap=1)
    assert not settled(60, 40).lost(0.9, overlap=20)  # five independent windows prove nothing
    assert not settled(20, 20).lost(0.9, overlap=1)  # nor do forty

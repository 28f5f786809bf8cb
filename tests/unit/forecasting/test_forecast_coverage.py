"""Live coverage counts what was announced, once its window has passed."""

from __future__ import annotations

import numpy as np

from r1_forecasting.calibration.coverage import CoverageLedger, Issued
from r1_forecasting.series.series import Series


def test_an_announcement_is_settled_when_its_window_is_over() -> None:
    ledger = CoverageLedger()
    ledger.announce(Issued(origin=2.0, steps=2, quantiles=((0.5, 3.5), (0.9, 4.0))))
    series = Series(0, 1, np.array([1.0, 2, 3, 4, 3]))
    ledger.settle(series.head(4))
    assert ledger.live(0.9) == (None, 0)
    ledger.settle(series)
    assert ledger.live(0.9) == (1.0, 1)
    assert ledger.live(0.5) == (0.0, 1)
    ledger.settle(series)
    assert ledger.live(0.9) == (1.0, 1)


def test_one_moment_is_announced_once() -> None:
    ledger = CoverageLedger()
    for quantile in (1.0, 9.0):
        ledger.announce(Issued(0.0, 1, ((0.9, quantile),)))
    ledger.settle(Series(0, 1, np.array([0.0, 5.0])))
    assert ledger.live(0.9) == (0.0, 1)


def test_a_window_that_was_not_observed_is_not_counted() -> None:
    ledger = CoverageLedger()
    ledger.announce(Issued(0.0, 2, ((0.9, 1.0),)))
    ledger.settle(Series(0, 1, np.array([0.0, np.nan, np.nan, 1.0])))
    assert ledger.live(0.9) == (None, 0)
    assert not ledger.pending


def settled(hits: int, misses: int) -> CoverageLedger:
    ledger = CoverageLedger()
    count = hits + misses
    for i in range(count):
        ledger.announce(Issued(float(i), 1, ((0.9, 1.0 if i % count < hits else -1.0),)))
    ledger.settle(Series(0, 1, np.zeros(count + 1)))
    return ledger


def test_coverage_is_lost_only_beyond_doubt() -> None:
    assert not settled(88, 12).lost(0.9, overlap=1)
    assert settled(60, 40).lost(0.9, overlap=1)
    assert not settled(60, 40).lost(0.9, overlap=20)  # five independent windows prove nothing
    assert not settled(20, 20).lost(0.9, overlap=1)  # nor do forty

"""Rates of counters over a window whose edge is between two samples."""

from __future__ import annotations

import pytest

from r1_operator.plan.signals.counter_rates import SHORTEST_SECONDS, CounterPoint, Rates, rates_over


def point(at: float, count: float) -> CounterPoint:
    return CounterPoint(at, count, 10 * count, count / 2, 0.0, 3 * at)


STEADY_THEN_FASTER = [point(0, 0), point(10, 20), point(20, 40), point(30, 100)]


def test_an_edge_between_two_readings_is_read_on_the_line_between_them() -> None:
    # At 15 s the line is at 30 requests.
    assert rates_over(STEADY_THEN_FASTER, 15) == Rates(
        seconds=15, requests=70 / 15, tokens=700 / 15, completed=35 / 15, rejected=0.0, replicas=3.0
    )


@pytest.mark.parametrize("seconds", [10.0, 20.0])
def test_an_edge_on_a_reading_is_that_reading(seconds: float) -> None:
    rates = rates_over(STEADY_THEN_FASTER, seconds)
    assert rates is not None
    before = {10.0: 40, 20.0: 20}[seconds]
    assert rates.requests == pytest.approx((100 - before) / seconds)


def test_a_history_shorter_than_the_window_is_taken_whole() -> None:
    rates = rates_over(STEADY_THEN_FASTER, 300)
    assert rates is not None
    assert (rates.seconds, rates.requests) == (30, 100 / 30)


def test_too_little_history_gives_none() -> None:
    assert rates_over([point(0, 0)], 60) is None
    assert rates_over([point(0, 0), point(SHORTEST_SECONDS - 0.1, 9)], 60) is None
    assert rates_over([point(0, 0), point(SHORTEST_SECONDS, 9)], 60) is not None

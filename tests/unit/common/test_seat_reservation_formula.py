"""The formula of seat reservations, which gateway and operator share."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1_common.seat_reservation import MISSES, reserved_seats

RATES = st.floats(0, 1e4)
SECONDS = st.floats(0, 1e4)


@pytest.mark.parametrize(
    ("arrivals", "wait", "seats", "seat_seconds", "reserved"),
    [
        (0.0, 0.25, 16, 10.0, 0),
        (1.0, 0.25, 1, 10.0, 0),
        (1.0, 0.25, 16, None, 1),
        (1.0, 0.25, 16, 0.0, 0),
        (1.0, 0.25, 16, 10.0, 8),
        (1.0, 0.25, 64, 10.0, 3),
        (1.0, 0.25, 500, 10.0, 0),
        (50.0, 0.25, 16, 10.0, 8),
    ],
)
def test_reserved_seats_of_known_loads(
    arrivals: float, wait: float, seats: float, seat_seconds: float | None, reserved: int
) -> None:
    assert reserved_seats(arrivals, wait, seats, seat_seconds) == reserved


@given(RATES, SECONDS, st.floats(0, 1e5), st.none() | SECONDS)
def test_at_most_half_of_a_pool_is_reserved(
    arrivals: float, wait: float, seats: float, seat_seconds: float | None
) -> None:
    assert 0 <= reserved_seats(arrivals, wait, seats, seat_seconds) <= seats / 2


@given(st.floats(0.01, 100), st.floats(0.01, 10), st.integers(2, 1000), st.floats(0.01, 100))
def test_the_reservation_is_the_smallest_that_keeps_the_probability(
    arrivals: float, wait: float, seats: int, seat_seconds: float
) -> None:
    """`log` of the probability that an urgent request still waits after `wait` seconds."""
    releases = seats / seat_seconds
    reserved = reserved_seats(arrivals, wait, seats, seat_seconds)

    def log_misses(count: int) -> float:
        return count * math.log(arrivals / releases) - releases * wait

    if 0 < reserved < seats // 2:
        assert log_misses(reserved) <= math.log(MISSES) + 1e-9
        assert log_misses(reserved - 1) > math.log(MISSES) - 1e-9


@given(RATES, SECONDS, st.integers(0, 1000), st.none() | SECONDS, st.floats(1, 10))
def test_more_urgent_arrivals_never_reserve_fewer_seats(
    arrivals: float, wait: float, seats: int, seat_seconds: float | None, factor: float
) -> None:
    before = reserved_seats(arrivals, wait, seats, seat_seconds)
    assert reserved_seats(arrivals * factor, wait, seats, seat_seconds) >= before

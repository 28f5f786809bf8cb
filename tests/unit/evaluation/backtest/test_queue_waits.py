"""Waits out of rates: Erlang's formula where there are seats, the queue where there are none."""

import numpy as np
import pytest

from r1_evaluation.backtest.queue_waits import share_waiting_longer


def share(
    rate: float, seats: int, seconds: float, queue_seconds: float = 0.0, seat_rate: float = 1.0
) -> float:
    [share_waiting] = share_waiting_longer(
        np.array([rate]), np.array([seats]), seat_rate, np.array([queue_seconds]), seconds
    )
    return float(share_waiting)


@pytest.mark.parametrize(
    ("offered", "seats", "wait"),
    [
        (0.5, 1, 0.5),  # one seat: as often as it is taken
        (1.0, 2, 1 / 3),
        (8.0, 10, 0.4092),  # tables of Erlang C
        (18.0, 20, 0.5508),
    ],
)
def test_the_share_of_waiting_arrivals_is_erlang_c(offered: float, seats: int, wait: float) -> None:
    assert share(offered, seats, 0.0) == pytest.approx(wait, abs=5e-4)


def test_long_waits_decay_with_the_free_seats() -> None:
    assert share(8.0, 10, 1.0) == pytest.approx(share(8.0, 10, 0.0) * np.exp(-2.0))


@pytest.mark.parametrize("seats", [0, 5, 8])
def test_with_too_few_seats_the_queue_decides_the_wait(seats: int) -> None:
    assert share(8.0, seats, 0.3, queue_seconds=0.4) == 1.0
    assert share(8.0, seats, 0.5, queue_seconds=0.4) == 0.0


def test_without_arrivals_no_share_waits() -> None:
    assert share(0.0, 4, 0.1) == 0.0


def test_waits_agree_with_a_simulated_queue() -> None:
    """A hundred thousand Poisson arrivals at eight seats, counted."""
    rng = np.random.default_rng(5)
    arrivals = np.cumsum(rng.exponential(1 / 6.4, 100_000))
    free = np.zeros(8)
    late = 0
    for at, takes in zip(arrivals, rng.exponential(1.0, len(arrivals)), strict=True):
        first = int(free.argmin())
        begins = max(at, free[first])
        late += begins - at > 0.5
        free[first] = begins + takes
    assert share(6.4, 8, 0.5) == pytest.approx(late / len(arrivals), rel=0.08)

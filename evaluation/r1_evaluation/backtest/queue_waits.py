"""Waits for a seat, computed from rates.

History holds rates and no requests. While a queue stands, an arrival waits for the requests in
front of it. Otherwise the wait follows Erlang's C formula: Poisson arrivals on c seats with
exponential service times. Service times of language models vary less than that, and arrivals more:
the figures compare settings and predict no single wait.
"""

from __future__ import annotations

import numpy as np

from r1_evaluation.traces.scenario import Floats, Ints


def share_waiting_longer(
    rate: Floats, seats: Ints, seat_rate: float, queue_seconds: Floats, seconds: float
) -> Floats:
    """Return for each step the share of arrivals that wait longer than `seconds` for a seat.

    `rate` is the arrival rate and `seat_rate` the service rate of one seat, both in requests/s;
    `queue_seconds` is the wait behind a standing queue.
    """
    offered = rate / seat_rate
    room = np.maximum(seats, 0)
    waits = _waits_at_all(offered, room)
    with np.errstate(over="ignore"):
        later = waits * np.exp(-np.maximum(room - offered, 0.0) * seat_rate * seconds)
    full = (offered >= room) | (queue_seconds > 0)
    shares: Floats = np.where(full, (queue_seconds > seconds).astype(float), later)
    return shares


def _waits_at_all(offered: Floats, seats: Ints) -> Floats:
    """Erlang C by the recursion of Erlang B, one pass for all steps; 1 where seats are too few."""
    blocked = np.ones_like(offered)
    for seat in range(1, int(seats.max(initial=0)) + 1):
        added = offered * blocked / (seat + offered * blocked)
        blocked = np.where(seat <= seats, added, blocked)
    free = seats > offered
    utilization = np.divide(offered, seats, out=np.ones_like(offered), where=free)
    waits: Floats = np.where(free, blocked / (1 - utilization * (1 - blocked)), 1.0)
    return waits

"""Number of seats that a pool reserves for classes with an SLO target.

Strict priority order alone cannot meet a target for the time to first token: when batch requests
occupy every seat, the next urgent request waits until one of them ends. So a less urgent request
takes a free seat only while enough others stay free.

Urgent arrivals (rate `a`) take seats from the reservation. Every seat that is freed (rate `r`: the
pool's seats over the mean time that a request occupies its seat) goes back into the reservation
first. The missing seats are then the customers of an M/M/1 queue. With `n` reserved seats an urgent
request finds none with probability `(a/r)^n`, and still has none after `w` seconds with probability
`(a/r)^n exp(-r w)`. The reservation is the smallest `n` for which that is at most `MISSES`.

It follows the load: it is 0 without urgent arrivals, and 0 in a pool so large that a seat is freed
within the target anyway.

The gateway computes it from its own arrivals, the operator from those at all gateways.
"""

from __future__ import annotations

import math

MISSES = 0.001
"""Probability that an urgent request waits for a seat for too long."""
WAIT_SHARE = 0.5
"""Share of the TTFT target for the wait in the queue; the rest is for the prefill."""


def reserved_seats(
    arrivals: float, wait_seconds: float, seats: float, seat_seconds: float | None
) -> int:
    """Seats to reserve in a pool of `seats`, at most half of them.

    `arrivals`: urgent requests/s. `wait_seconds`: how long an urgent request may wait for a seat.
    `seat_seconds`: mean time that a request occupies its seat; while that is unknown (None) the
    reservation is one seat.
    """
    if arrivals * wait_seconds < MISSES or seats < 2:
        return 0
    if not seat_seconds:  # no request has ended yet, or all end at once
        return 1 if seat_seconds is None else 0
    half = int(seats) // 2
    releases = seats / seat_seconds
    excess = -math.log(MISSES) - releases * wait_seconds
    if excess <= 0.0:
        return 0
    if arrivals >= releases:
        return half
    return min(math.ceil(excess / math.log(releases / arrivals)), half)

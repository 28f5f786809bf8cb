"""Time between two samples of one gateway, independent of clock steps.

A sample has three readings. `uptime` is the gateway's monotonic clock, the best one; earlier releases do not
send it. `at` is the gateway's wall clock, which can be set at any time. `received_at` is the operator's
monotonic clock at the response, exact to within the response time.
"""

import math
from typing import Protocol

AGREEMENT_SECONDS = 1.0
"""Largest difference between `at` and `received_at`: the variation of the response time."""


class GatewaySample(Protocol):
    """The clock readings of a sample; all in seconds."""

    @property
    def started_at(self) -> float: ...
    @property
    def at(self) -> float: ...
    @property
    def received_at(self) -> float: ...
    @property
    def uptime(self) -> float | None: ...


def is_restart(before: GatewaySample, after: GatewaySample) -> bool:
    """Return whether another process answered, whose counters started at zero."""
    if after.started_at != before.started_at:
        return True
    if before.uptime is None or after.uptime is None:
        return False
    return after.uptime < before.uptime


def elapsed(before: GatewaySample, after: GatewaySample) -> float:
    """Return the seconds between two samples; 0 or less for a sample that is not newer.

    Without `uptime` in both, `at` counts while it agrees with `received_at`. Otherwise the gateway's wall
    clock was set, and `received_at` counts. An equal `at` is a repeated response.
    """
    if after.uptime is not None and before.uptime is not None:
        if not is_restart(before, after):
            return after.uptime - before.uptime
    elif after.at == before.at and after.started_at == before.started_at:
        return 0.0
    stated = after.at - before.at
    received = after.received_at - before.received_at
    if received > 0 and abs(stated - received) > AGREEMENT_SECONDS:
        return received
    return stated


def age(sample: GatewaySample) -> float:
    """Return how long the gateway has counted (seconds); infinite where unknown."""
    if sample.uptime is not None:
        return sample.uptime
    by_wall = sample.at - sample.started_at
    return by_wall if by_wall >= 0 else math.inf  # the wall clock was set back

"""How much time passed between two samples of one gateway, by clocks that are not set.

A sample carries three readings. `uptime` is the gateway's own monotonic clock: the best, absent from
gateways of earlier releases. `at` is its wall clock, which can be set at any time. `received_at` is
the operator's monotonic clock when the answer came, right to within the time that an answer takes.
"""

import math
from typing import Protocol

AGREEMENT_SECONDS = 1.0
"""`at` counts while it moves with `received_at` to within this: what an answer's delay may vary by."""


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
    """Return whether another process answered: its counters began at zero."""
    if after.started_at != before.started_at:
        return True
    if before.uptime is None or after.uptime is None:
        return False
    return after.uptime < before.uptime


def elapsed(before: GatewaySample, after: GatewaySample) -> float:
    """Return the seconds between two samples; 0 or less for one that is not newer.

    Without `uptime` in both, `at` counts where it moves with `received_at`, and `received_at` where
    it does not: the gateway's wall clock was set. The same `at` again is the same answer again.
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
    """Return for how long the gateway has counted (seconds); infinite where that is not known."""
    if sample.uptime is not None:
        return sample.uptime
    by_wall = sample.at - sample.started_at
    return by_wall if by_wall >= 0 else math.inf  # its wall clock was set back since

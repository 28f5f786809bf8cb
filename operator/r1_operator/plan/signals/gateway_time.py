"""Order of two samples of one gateway and the time between them, independent of clock steps.

A sample has three readings. `uptime` is the gateway's monotonic clock, the best one; earlier releases do not
send it. `at` is the gateway's wall clock, which can be set at any time. `received_at` is the operator's
monotonic clock at the response, exact to within the response time.
"""

import math
from collections.abc import Collection
from enum import Enum
from typing import Protocol

AGREEMENT_SECONDS = 1.0
"""Largest difference between `at` and `received_at`: the variation of the response time."""
RESPONSE_SECONDS = 2.0
"""Longest response time; a request to a gateway times out earlier."""


class Order(Enum):
    """Relation of a sample to the newest accepted one."""

    NEXT = "next"
    """a later sample of the same process"""
    RESTART = "restart"
    """the first sample of a process that started after the newest sample"""
    NOT_NEWER = "not newer"
    """repeated, late, or of another process that ran before the newest sample"""


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


def order(newest: GatewaySample, sample: GatewaySample, replaced: Collection[float]) -> Order:
    """Return the relation of `sample` to `newest`.

    A process is identified by `started_at`. Another process is a restart only where it can have started
    after `newest`: counters of a process that is older than that were counted before, or at another
    gateway behind the same address. `replaced`: `started_at` of the processes before `newest`'s.
    """
    gap = sample.received_at - newest.received_at
    if gap < 0:
        return Order.NOT_NEWER
    if sample.started_at == newest.started_at:
        return Order.NEXT if elapsed(newest, sample) > 0 else Order.NOT_NEWER
    if sample.started_at in replaced or gap == 0:
        return Order.NOT_NEWER
    return Order.RESTART if age(sample) <= gap + RESPONSE_SECONDS else Order.NOT_NEWER


def elapsed(before: GatewaySample, after: GatewaySample) -> float:
    """Return the seconds between two samples; 0 or less for a sample that is not newer.

    Samples of one process with `uptime` differ by it. Otherwise `at` counts while it agrees with
    `received_at`, and `received_at` where the gateway's wall clock was set. An equal `at` is a repeated
    response.
    """
    if after.started_at == before.started_at:
        if after.uptime is not None and before.uptime is not None:
            return after.uptime - before.uptime
        if after.at == before.at:
            return 0.0
    received = after.received_at - before.received_at
    return received if received > 0 and is_clock_set(before, after) else after.at - before.at


def is_clock_set(before: GatewaySample, after: GatewaySample) -> bool:
    """Return whether the gateway's wall clock was set between two samples, or one of them is late."""
    stated, received = after.at - before.at, after.received_at - before.received_at
    return abs(stated - received) > AGREEMENT_SECONDS


def age(sample: GatewaySample) -> float:
    """Return how long the gateway has counted (seconds); infinite where unknown."""
    if sample.uptime is not None:
        return sample.uptime
    by_wall = sample.at - sample.started_at
    return by_wall if by_wall >= 0 else math.inf  # the wall clock was set back

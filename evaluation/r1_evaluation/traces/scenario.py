"""A scenario: a recorded load in steps of 15 s, with the capacity and start-up time of a replica.

Demand is linear between the middles of the trace's buckets. The capacity of a replica is set so that
the highest bucket of the test window needs 20 replicas at 70 %. Controllers observe the mean of the
last 60 s, 15 s old. Buckets without data are interpolated and not scored.

The test window is the last third of the trace, within five to eight days, and at most half of the
trace. Policies start one hour earlier, unscored, so that the first count has no effect on a score.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from r1_evaluation.traces.load import RateTrace, RequestTrace, Trace, UnreadableTrace, bridge

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

STEP_SECONDS = 15
PEAK_REPLICAS = 20
PLANNED_UTILIZATION = 0.7
MAX_REPLICAS = 60
MINUTE_STEPS = 4
DAY_SECONDS = 86_400.0
_RUN_IN_STEPS = 240


@dataclass(frozen=True, slots=True, eq=False)
class Scenario:
    """Demand and observed demand, one entry per step from the trace's first bucket.

    `demand` and `reading` are requests/s, `capacity` requests/s of one replica. Policies run from
    step `begin` on; `known` is False in gaps; only steps in `scored` are scored. `start_steps` is the
    start-up time in steps, rounded up.
    """

    name: str
    demand: Floats
    reading: Floats
    known: Bools
    scored: Bools
    begin: int
    test_from: int
    capacity: float
    start_steps: int

    @property
    def start_seconds(self) -> float:
        """The simulated start-up time."""
        return float(self.start_steps * STEP_SECONDS)

    @property
    def decision_steps(self) -> slice:
        """The steps at which policies decide."""
        return slice(self.begin, len(self.demand))

    @property
    def halves(self) -> tuple[Bools, Bools]:
        """The scored steps in the first and in the second half of the test window."""
        steps = np.arange(len(self.demand))
        middle = self.test_from + (len(self.demand) - self.test_from) // 2
        return self.scored & (steps < middle), self.scored & (steps >= middle)


def days_of(trace: Trace, first: float, last: float) -> Trace:
    """Return the part of a trace between two days, counted from its start.

    Raises UnreadableTrace when that part is empty.
    """
    begin, end = first * DAY_SECONDS, last * DAY_SECONDS
    part: Trace
    if isinstance(trace, RateTrace):
        bucket = trace.bucket_seconds
        part = trace.part(round(begin / bucket), round(end / bucket))
        there = bool(part.per_minute)
    else:
        start = trace.requests[0].at if trace.requests else 0.0
        requests = tuple(one for one in trace.requests if begin <= one.at - start < end)
        part = RequestTrace(trace.name, requests, trace.source)
        there = bool(requests)
    if not there:
        lasts = trace.seconds / DAY_SECONDS
        raise UnreadableTrace(f"{trace.name} has {lasts:.1f} days, nothing from day {first:g} on")
    return part


def scenario_of(trace: Trace, start_seconds: float) -> Scenario:
    """Build the scenario of a trace with a start-up time of `start_seconds`.

    Raises UnreadableTrace when the trace is too short or its test window has no demand.
    """
    bucket, per_minute = _buckets(trace)
    rates = np.array([math.nan if v is None else v / 60 for v in per_minute])
    known = ~np.isnan(rates)
    count = len(rates)
    first = count - round(_tested_seconds(count * bucket) / bucket)
    if count < 4 or first < 1:
        raise UnreadableTrace(f"{trace.name} has {count} buckets, a test needs at least 4")
    if not known[first:].any() or not np.nanmax(rates[first:]) > 0:
        raise UnreadableTrace(f"{trace.name}: no requests in the last part, the test window")
    bridged = np.array(bridge([None if math.isnan(v) else v for v in rates.tolist()]))
    steps = round(count * bucket / STEP_SECONDS)
    middles = (np.arange(steps) + 0.5) * STEP_SECONDS
    demand = np.interp(middles, (np.arange(count) + 0.5) * bucket, bridged)
    test_from = round(first * bucket / STEP_SECONDS)
    bucket_of = np.minimum((middles // bucket).astype(np.int64), count - 1)
    return Scenario(
        name=trace.name,
        demand=demand,
        reading=_readings(demand),
        known=known[bucket_of],
        scored=known[bucket_of] & (np.arange(steps) >= test_from),
        begin=max(0, test_from - _RUN_IN_STEPS),
        test_from=test_from,
        capacity=float(np.nanmax(rates[first:])) / (PLANNED_UTILIZATION * PEAK_REPLICAS),
        start_steps=max(1, math.ceil(start_seconds / STEP_SECONDS)),
    )


def _buckets(trace: Trace) -> tuple[float, tuple[float | None, ...]]:
    if isinstance(trace, RateTrace):
        return trace.bucket_seconds, trace.per_minute
    if len(trace.requests) < 2:
        raise UnreadableTrace(f"{trace.name} has fewer than two requests")
    times = np.array([request.at for request in trace.requests])
    counts = np.bincount(((times - times[0]) // 60).astype(np.int64))
    # The last minute is incomplete.
    return 60.0, tuple(float(n) for n in (counts[:-1] if len(counts) > 4 else counts))


def _tested_seconds(total: float) -> float:
    return min(max(total / 3, 5 * DAY_SECONDS), 8 * DAY_SECONDS, total / 2)


def _readings(demand: Floats) -> Floats:
    """Return the mean of steps i-5 to i-2 for each step i: a minute that ended 15 s ago."""
    summed = np.concatenate([[0.0], np.cumsum(demand)])
    step = np.arange(len(demand))
    last = np.clip(step - 1, 1, None)
    first = np.clip(step - 1 - MINUTE_STEPS, 0, None)
    means: Floats = (summed[last] - summed[first]) / (last - first)
    return means

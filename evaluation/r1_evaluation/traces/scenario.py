"""A recorded load as a world that policies are tried in: demand in steps of 15 s.

Demand is linear between the middles of the trace's buckets. A replica takes `capacity` requests
per second, set so that the highest bucket of the tested window needs 20 replicas at 70 %. What a
controller sees at a step is the mean of the last 60 s, 15 s old. Buckets in which nothing was
collected are bridged and not scored.

The tested window is the last third of the trace, within five to eight days, and never more than
its half: all before it is there to learn from. Policies begin an hour earlier, unscored, so that
none is judged by the count it was started with.
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
    """Demand and what is known of it, one entry a step from the trace's first bucket on.

    `demand` and `reading` are requests/s, `capacity` requests/s of one replica. Policies run from
    step `begin` on; `known` is False in gaps; steps in `scored` count. `start_steps` is the start-up time in steps, rounded
    up.
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
        """The start-up time as it is played."""
        return float(self.start_steps * STEP_SECONDS)

    @property
    def decision_steps(self) -> slice:
        """The steps that policies decide at."""
        return slice(self.begin, len(self.demand))

    @property
    def halves(self) -> tuple[Bools, Bools]:
        """The scored steps of the tested window's first and second half."""
        steps = np.arange(len(self.demand))
        middle = self.test_from + (len(self.demand) - self.test_from) // 2
        return self.scored & (steps < middle), self.scored & (steps >= middle)


def days_of(trace: Trace, first: float, last: float) -> Trace:
    """Return what a trace recorded from one day to another, days counted from its beginning.

    Raises UnreadableTrace where nothing was.
    """
    begin, end = first * DAY_SECONDS, last * DAY_SECONDS
    kept: Trace
    if isinstance(trace, RateTrace):
        bucket = trace.bucket_seconds
        kept = trace.part(round(begin / bucket), round(end / bucket))
        there = bool(kept.per_minute)
    else:
        start = trace.requests[0].at if trace.requests else 0.0
        requests = tuple(one for one in trace.requests if begin <= one.at - start < end)
        kept = RequestTrace(trace.name, requests, trace.source)
        there = bool(requests)
    if not there:
        lasts = trace.seconds / DAY_SECONDS
        raise UnreadableTrace(f"{trace.name} lasts {lasts:.1f} days: none from {first:g} on")
    return kept


def scenario_of(trace: Trace, start_seconds: float) -> Scenario:
    """Build the world of a trace with replicas that need `start_seconds` to serve.

    Raises UnreadableTrace when it is too short or holds no demand to scale for.
    """
    bucket, per_minute = _buckets(trace)
    rates = np.array([math.nan if v is None else v / 60 for v in per_minute])
    known = ~np.isnan(rates)
    count = len(rates)
    first = count - round(_tested_seconds(count * bucket) / bucket)
    if count < 4 or first < 1:
        raise UnreadableTrace(f"{trace.name} has {count} buckets: a test needs at least four")
    if not known[first:].any() or not np.nanmax(rates[first:]) > 0:
        raise UnreadableTrace(f"{trace.name}: nothing was offered in the last part, its test")
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
    # The last minute is cut off where the recording ended.
    return 60.0, tuple(float(n) for n in (counts[:-1] if len(counts) > 4 else counts))


def _tested_seconds(total: float) -> float:
    return min(max(total / 3, 5 * DAY_SECONDS), 8 * DAY_SECONDS, total / 2)


def _readings(demand: Floats) -> Floats:
    """Return at step i the mean of steps i-5 to i-2: a minute that ended 15 s ago."""
    summed = np.concatenate([[0.0], np.cumsum(demand)])
    step = np.arange(len(demand))
    last = np.clip(step - 1, 1, None)
    first = np.clip(step - 1 - MINUTE_STEPS, 0, None)
    means: Floats = (summed[last] - summed[first]) / (last - first)
    return means

"""Replicas that a latency objective needs.

A latency shows *that* replicas are missing, and hardly how many: below the knee of the queueing curve it
barely changes, beyond the knee it explodes. A count proportional to latency over objective would
oscillate around the knee. So the state stores the load that a replica carried, in requests/s per serving
replica:

- *missed* (statistic or oldest wait above the objective): `ceil(serving x min(latency / objective, 2))`, or
  `serving x step` with a step rule, and no more than a load that met the objective needs. The next step
  waits while replicas start, until the new count has served long enough for the figures, and while the
  queue drains faster than a replica would start. The load is stored as `missed_at`.
- *met*: the load is stored as `met_at`. The count may fall to `arrivals / met_at`. It falls below that by
  a fifth at a time, and only where the latency scaled up by the removed replicas leaves a fifth of the
  objective. A load of `0.9 x missed_at` is not planned on a replica again; `missed_at` grows by a tenth per
  hour, because requests change.
- *out of reach*: a step that lowered the load per replica and not the latency is not repeated until the
  latency grows by a quarter. The count never exceeds one replica per request, because more replicas do not
  make a request shorter. Such a miss is not stored as a load.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from r1_common.contracts.unavailable import Unavailable
from r1_operator.api.scaling import ClassName, MetricType
from r1_operator.plan.scaling.policy import MetricTarget
from r1_operator.plan.scaling.real_time.recommendations import (
    Recommendation,
    count_of,
    figure,
    whole,
)
from r1_operator.plan.scaling.reasons import DecisionReason
from r1_operator.plan.signals.demand import Demand
from r1_operator.plan.signals.latencies import FEW, LONG_SECONDS, Latencies, Recent
from r1_operator.plan.signals.lead_time import drain_horizon

LARGEST_STEP = 2.0
SETTLE_SECONDS = 30.0
SAFE_SHARE = 0.9
SPARE_SHARE = 0.8
SMALLEST_STEP_DOWN = 0.8
WORSE = 1.25
FORGOTTEN_PER_SECOND = 0.1 / 3600


@dataclass(frozen=True, slots=True)
class StepUp:
    """State before a step up: replicas, load (requests/s per replica) and latency (s)."""

    serving: int
    load: float
    seconds: float


@dataclass(frozen=True, slots=True)
class LatencyMemory:
    """State of one latency metric; `LatencyMemory()` is that of a fresh start.

    `serving` replicas have served together, without a draining queue, since `since` (seconds).
    `met_at`, `missed_at`: loads in requests/s per replica (None: none yet); `missed_noted_at`: time of
    the latter. `last_step`: state before the last step up. `out_of_reach`: latency (seconds) that a step
    did not improve.
    """

    serving: int = 0
    since: float = 0.0
    met_at: float = 0.0
    missed_at: float | None = None
    missed_noted_at: float = 0.0
    last_step: StepUp | None = None
    out_of_reach: float | None = None


@dataclass(frozen=True, slots=True)
class _Statistic:
    """Latency (seconds) of `count` requests completed in the last `span` seconds."""

    seconds: float
    count: float
    span: float


@dataclass(frozen=True, slots=True)
class ServiceModel:
    """Demand, requested replicas (`current`) and ready replicas beside a latency.

    `lead_seconds`: time from the request for a replica until it serves.
    """

    demand: Demand
    current: int
    ready: int
    lead_seconds: float = 0.0

    @property
    def serving(self) -> int:
        """Serving replicas, of the requested ones."""
        return max(0, min(self.ready, self.current))

    @property
    def drains_in(self) -> float:
        """Seconds until the queue is empty at the present rates; infinite while it grows."""
        completed, arrivals = self.demand.completed_per_replica, self.demand.requests_per_second
        if isinstance(completed, Unavailable) or isinstance(arrivals, Unavailable):
            return math.inf
        surplus = completed * self.serving - arrivals
        return self.demand.queued / surplus if surplus > 0 else math.inf

    @property
    def concurrent(self) -> float:
        """Requests that are queued or in flight."""
        figures = (self.demand.in_flight, self.demand.queued, self.demand.buffered)
        return sum(figure for figure in figures if math.isfinite(figure) and figure > 0)


def latency_recommendation(
    metric: MetricTarget,
    latencies: Latencies | Unavailable,
    service: ServiceModel,
    memory: LatencyMemory,
    now: float,
) -> tuple[Recommendation | Unavailable, LatencyMemory]:
    """Return the recommendation of the objective at `now` (seconds), and the new state.

    Unavailable while latencies are unknown though requests run: the count is then kept.
    """
    if service.serving != memory.serving:
        memory = replace(memory, serving=service.serving, since=now)
    if isinstance(latencies, Unavailable):
        return latencies, memory
    arrivals = service.demand.requests_per_second
    if isinstance(arrivals, Unavailable):
        return arrivals, memory
    if not (math.isfinite(arrivals) and arrivals >= 0):
        return Unavailable(
            "InvalidSignals", f"The demand is {arrivals} requests/s, which is not valid."
        ), memory
    latency, wait = _statistic(metric, latencies), _oldest_wait(metric, latencies)
    for read in (wait, 0.0 if latency is None else latency.seconds):
        if not (math.isfinite(read) and read >= 0):
            return _impossible(metric, read), memory
    if arrivals == 0 and service.concurrent == 0:
        return Recommendation(0, DecisionReason.REAL_TIME_DEMAND, "no requests"), memory
    if service.serving == 0:
        text = (
            f"no replica is ready and {figure(service.concurrent)} requests are queued or in flight"
        )
        return Recommendation(
            max(1, service.current), DecisionReason.REAL_TIME_DEMAND, text
        ), memory
    objective = metric.target / 1000
    late = latency is not None and latency.count >= FEW and latency.seconds > objective
    if wait > objective and (latency is None or not late or wait > latency.seconds):
        return _missed(metric, _Statistic(wait, 1, 0.0), service, arrivals, memory, now)
    if late and latency is not None:
        return _missed(metric, latency, service, arrivals, memory, now)
    if latency is None and arrivals * LONG_SECONDS >= FEW:
        text = f"{metric.label}: no request completed in the last {LONG_SECONDS:.0f} s."
        return Unavailable("NoneFinished", text), memory
    return _met(metric, latency, service, arrivals, memory, now)


def milliseconds_of(
    metric: MetricTarget, latencies: Latencies | Unavailable
) -> float | Unavailable | None:
    """Return the metric's present value for messages; None without recently completed requests."""
    if isinstance(latencies, Unavailable):
        return latencies
    latency = _statistic(metric, latencies)
    if latency is None:
        return None
    if not (math.isfinite(latency.seconds) and latency.seconds >= 0):
        return _impossible(metric, latency.seconds)
    return latency.seconds * 1000


def _impossible(metric: MetricTarget, seconds: float) -> Unavailable:
    message = f"{metric.label} is {seconds} s, which is not a valid latency."
    return Unavailable("InvalidLatency", message)


def _missed(
    metric: MetricTarget,
    latency: _Statistic,
    service: ServiceModel,
    arrivals: float,
    memory: LatencyMemory,
    now: float,
) -> tuple[Recommendation, LatencyMemory]:
    serving, current = service.serving, service.current
    text = _sentence(metric, latency)
    least = max(current, _safe_count(arrivals, _missed_at(memory, now)))

    def wait_for(why: str) -> tuple[Recommendation, LatencyMemory]:
        return Recommendation(least, DecisionReason.LATENCY_OBJECTIVE, f"{text}; {why}"), memory

    if serving < current:
        return wait_for(f"{current - serving} of {current} replicas are starting")
    if not _settled(memory, latency, now):
        return wait_for(f"{current} replicas have served for only {now - memory.since:.0f} s")
    completed = service.demand.completed_per_replica
    load = arrivals / serving
    # While a queue drains, arrivals may be few: the completions are then the load of a replica.
    if not isinstance(completed, Unavailable) and math.isfinite(completed):
        load = max(load, completed)
    memory = _with_step_result(memory, load, latency.seconds)
    alone = whole(service.concurrent)
    if alone <= serving:
        text += "; every request already has its own replica"
        return Recommendation(
            max(1, min(current, alone)), DecisionReason.LATENCY_OBJECTIVE, text
        ), memory
    if memory.out_of_reach is not None and latency.seconds <= WORSE * memory.out_of_reach:
        return Recommendation(
            current, DecisionReason.LATENCY_OBJECTIVE, f"{text}; adding replicas did not reduce it"
        ), memory
    memory = _remember_miss(memory, load, now)
    if 0 < service.drains_in <= max(drain_horizon(service.lead_seconds), SETTLE_SECONDS):
        # Requests that complete soon were queued too: the settling time starts when the queue is gone.
        memory = replace(memory, since=now)
        return wait_for(f"the queue drains in {service.drains_in:.0f} s")
    desired = serving * (metric.step or min(latency.seconds / (metric.target / 1000), LARGEST_STEP))
    if 0 < memory.met_at < arrivals / serving:  # a load that met the objective is enough
        desired = min(desired, arrivals / memory.met_at)
    needed = max(least, min(max(serving + 1, whole(desired)), alone))
    memory = replace(memory, last_step=StepUp(serving, load, latency.seconds))
    return Recommendation(
        needed,
        DecisionReason.LATENCY_OBJECTIVE,
        f"{text} with {serving} replicas and needs {needed}",
    ), memory


def _remember_miss(memory: LatencyMemory, load: float, now: float) -> LatencyMemory:
    known = _missed_at(memory, now)
    if load <= 0 or (known is not None and load >= known):
        return memory
    met_at = min(memory.met_at, SAFE_SHARE * load)
    return replace(memory, missed_at=load, missed_noted_at=now, met_at=met_at)


def _with_step_result(memory: LatencyMemory, load: float, seconds: float) -> LatencyMemory:
    """Return the state with the result of the last step: half of the expected effect counts."""
    before = memory.last_step
    if before is None or memory.serving <= before.serving:
        return memory
    share = (1 + before.serving / memory.serving) / 2
    if load > share * before.load:
        return memory
    if seconds <= share * before.seconds:
        return replace(memory, last_step=None)
    # The miss does not depend on the load.
    return replace(memory, last_step=None, missed_at=None, out_of_reach=before.seconds)


def _met(
    metric: MetricTarget,
    latency: _Statistic | None,
    service: ServiceModel,
    arrivals: float,
    memory: LatencyMemory,
    now: float,
) -> tuple[Recommendation, LatencyMemory]:
    serving, current = service.serving, service.current
    missed_at = _missed_at(memory, now)
    met_at, lower = memory.met_at, serving
    if latency is not None and serving == current and _settled(memory, latency, now):
        load = arrivals / serving
        met_at = max(met_at, load)
        share = latency.seconds / (metric.target / 1000)
        if missed_at is not None and load > missed_at and share <= SPARE_SHARE:
            missed_at = None
        lower = _one_step_down(serving, share)
        memory = replace(
            memory,
            met_at=met_at,
            missed_at=None if missed_at is None else memory.missed_at,
            last_step=None,
            out_of_reach=None,
        )
    proven = whole(arrivals / met_at) if met_at > 0 else current
    needed = max(1, min(current, lower, proven))
    text = (
        _sentence(metric, latency) if latency else f"{metric.label}: no request completed recently"
    )
    safe = _safe_count(arrivals, missed_at)
    if missed_at is not None and safe > needed:
        needed = safe
        text += f"; it was missed at {figure(missed_at)} requests/s per replica"
    return Recommendation(
        needed, DecisionReason.REAL_TIME_DEMAND, f"{text}; {count_of(needed)} can meet it"
    ), memory


def _safe_count(arrivals: float, missed_at: float | None) -> int:
    return 0 if missed_at is None else whole(arrivals / (SAFE_SHARE * missed_at))


def _one_step_down(serving: int, share: float) -> int:
    """Return the next lower count to try, the same where the latency leaves no margin."""
    lower = max(1, min(serving - 1, math.ceil(SMALLEST_STEP_DOWN * serving)))
    return lower if share * serving / lower <= SPARE_SHARE else serving


def _settled(memory: LatencyMemory, latency: _Statistic, now: float) -> bool:
    return now - memory.since >= SETTLE_SECONDS + max(latency.span, SETTLE_SECONDS)


def _missed_at(memory: LatencyMemory, now: float) -> float | None:
    if memory.missed_at is None:
        return None
    return memory.missed_at * (1 + FORGOTTEN_PER_SECOND * max(0.0, now - memory.missed_noted_at))


def _statistic(metric: MetricTarget, latencies: Latencies) -> _Statistic | None:
    by_class: Mapping[ClassName, Recent] = (
        latencies.first_token if metric.type is MetricType.TIME_TO_FIRST_TOKEN else latencies.whole
    )
    chosen = [recent for name, recent in by_class.items() if metric.priority_class in (None, name)]
    if not chosen:
        return None
    durations = chosen[0].durations
    for recent in chosen[1:]:
        durations = durations.plus(recent.durations)
    level = metric.percentile
    seconds = durations.mean() if level is None else durations.quantile(level)
    if seconds is None:
        return None
    return _Statistic(seconds, durations.count, max(recent.seconds for recent in chosen))


def _oldest_wait(metric: MetricTarget, latencies: Latencies) -> float:
    waits = [
        wait
        for name, wait in latencies.oldest_wait.items()
        if metric.priority_class in (None, name)
    ]
    return max(waits, default=0.0)


def _sentence(metric: MetricTarget, latency: _Statistic) -> str:
    share = "mean" if metric.percentile is None else f"p{metric.percentile * 100:g}"
    whose = f" of {metric.priority_class}" if metric.priority_class else ""
    what = f"{share}{whose}" if latency.span else f"oldest wait{whose}"
    return (
        f"{metric.label} is {figure(latency.seconds * 1000)} ms ({what}), objective "
        f"{figure(metric.target)} ms"
    )

"""How many replicas a latency objective asks for.

A latency says *that* there are too few replicas and hardly by how many: below the knee of the
queue it barely moves, beyond it it explodes. So the count is not the proportion of latency to
objective, which falls off the knee and climbs back for ever. What is kept instead is the load a
replica was seen to carry, in requests/s per serving replica:

- *missed* (statistic or oldest wait above the objective): `ceil(serving x min(latency /
  objective, 2))`, or `serving x step` with a step rule; no more than a load that held asks for.
  One step, then patience: while replicas start they are the answer already, and the next step
  waits until the count has served long enough for the figures to be its own, and while a queue
  drains faster than a replica would come. The load is noted as `broke_at`.
- *kept*: the load is noted as `held_at`; the count may go down to `arrivals / held_at`, and below
  that by a fifth at a time, only where the latency scaled up by the replicas that go still has a
  fifth of the objective to spare. `0.9 x broke_at` is never planned on a replica again; as
  requests change, `broke_at` is forgotten by a tenth an hour.
- *out of reach*: a step that lowered the load of a replica and not the latency is not repeated
  until the latency grows by a quarter, and nothing is asked for beyond one replica per request:
  more replicas make no request shorter. Such a miss says nothing about the load.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from r1_operator.api.scaling import ClassName, MetricType
from r1_operator.plan.scaling.policy import MetricTarget
from r1_operator.plan.scaling.reasons import DecisionReason
from r1_operator.plan.scaling.recommendations import Recommendation, figure, whole
from r1_operator.plan.signals.demand import Demand
from r1_operator.plan.signals.latency_histograms import FEW, LONG_SECONDS, Latencies, Recent
from r1_operator.plan.signals.lead_time import drain_horizon
from r1_operator.plan.unavailable import Unavailable

LARGEST_STEP = 2.0
SETTLE_SECONDS = 30.0
SAFE_SHARE = 0.9
SPARE_SHARE = 0.8
SMALLEST_STEP_DOWN = 0.8
WORSE = 1.25
FORGOTTEN_PER_SECOND = 0.1 / 3600


@dataclass(frozen=True, slots=True)
class Stepped:
    """A step up: the replicas it started from, their load (requests/s each) and the latency (s)."""

    serving: int
    load: float
    seconds: float


@dataclass(frozen=True, slots=True)
class LatencyMemory:
    """What one latency metric remembers; `LatencyMemory()` is that of a fresh start.

    `serving` replicas have served together, without a queue that drains, since `since` (unix
    seconds). `held_at` and `broke_at`
    are loads in requests/s per replica (None: not seen), `broke_noted` when the latter was
    noted. `stepped` is how it was when a step was last asked for, `out_of_reach` the latency
    (seconds) that a step did not improve.
    """

    serving: int = 0
    since: float = 0.0
    held_at: float = 0.0
    broke_at: float | None = None
    broke_noted: float = 0.0
    stepped: Stepped | None = None
    out_of_reach: float | None = None


@dataclass(frozen=True, slots=True)
class _Seen:
    """The latency (seconds) of `count` requests finished in the last `span` seconds."""

    seconds: float
    count: float
    span: float


@dataclass(frozen=True, slots=True)
class ServiceModel:
    """What a latency is judged beside: demand, the count asked for and the replicas that serve.

    `lead_seconds` is what a replica takes from being asked for to serving.
    """

    demand: Demand
    current: int
    ready: int
    lead_seconds: float = 0.0

    @property
    def serving(self) -> int:
        """Replicas that work, of those that are wanted."""
        return max(0, min(self.ready, self.current))

    @property
    def drains_in(self) -> float:
        """Seconds until nothing waits, by what replicas finish now; infinite while it grows."""
        finished, arrivals = self.demand.completed_per_replica, self.demand.requests_per_second
        if isinstance(finished, Unavailable) or isinstance(arrivals, Unavailable):
            return math.inf
        surplus = finished * self.serving - arrivals
        return self.demand.queued / surplus if surplus > 0 else math.inf

    @property
    def at_once(self) -> float:
        """Requests that run or wait."""
        figures = (self.demand.in_flight, self.demand.queued, self.demand.held)
        return sum(figure for figure in figures if math.isfinite(figure) and figure > 0)


def latency_recommendation(
    metric: MetricTarget,
    latencies: Latencies | Unavailable,
    service: ServiceModel,
    memory: LatencyMemory,
    now: float,
) -> tuple[Recommendation | Unavailable, LatencyMemory]:
    """Return what the objective asks for at `now` (unix seconds), and what to remember.

    Unavailable while latencies are not known though requests run: the count is then held.
    """
    if service.serving != memory.serving:
        memory = replace(memory, serving=service.serving, since=now)
    if isinstance(latencies, Unavailable):
        return latencies, memory
    arrivals = service.demand.requests_per_second
    if isinstance(arrivals, Unavailable):
        return arrivals, memory
    if not (math.isfinite(arrivals) and arrivals >= 0):
        return Unavailable("InvalidSignals", f"{arrivals} requests/s cannot be."), memory
    seen, wait = _statistic(metric, latencies), _oldest_wait(metric, latencies)
    for read in (wait, 0.0 if seen is None else seen.seconds):
        if not (math.isfinite(read) and read >= 0):
            return _impossible(metric, read), memory
    if arrivals == 0 and service.at_once == 0:
        return Recommendation(0, DecisionReason.REAL_TIME_DEMAND, "nothing is asked for"), memory
    if service.serving == 0:
        text = f"no replica serves yet and {figure(service.at_once)} requests run or wait"
        return Recommendation(
            max(1, service.current), DecisionReason.REAL_TIME_DEMAND, text
        ), memory
    objective = metric.target / 1000
    late = seen is not None and seen.count >= FEW and seen.seconds > objective
    if wait > objective and (seen is None or not late or wait > seen.seconds):
        return _missed(metric, _Seen(wait, 1, 0.0), service, arrivals, memory, now)
    if late and seen is not None:
        return _missed(metric, seen, service, arrivals, memory, now)
    if seen is None and arrivals * LONG_SECONDS >= FEW:
        text = f"No request of {metric.label} was finished in {LONG_SECONDS:.0f} s."
        return Unavailable("NoneFinished", text), memory
    return _kept(metric, seen, service, arrivals, memory, now)


def milliseconds_of(
    metric: MetricTarget, latencies: Latencies | Unavailable
) -> float | Unavailable | None:
    """Return what the metric reads now, for people; None where no request finished lately."""
    if isinstance(latencies, Unavailable):
        return latencies
    seen = _statistic(metric, latencies)
    if seen is None:
        return None
    if not (math.isfinite(seen.seconds) and seen.seconds >= 0):
        return _impossible(metric, seen.seconds)
    return seen.seconds * 1000


def _impossible(metric: MetricTarget, seconds: float) -> Unavailable:
    message = f"{metric.label} reads {seconds} s, which no latency can be."
    return Unavailable("InvalidLatency", message)


def _missed(
    metric: MetricTarget,
    seen: _Seen,
    service: ServiceModel,
    arrivals: float,
    memory: LatencyMemory,
    now: float,
) -> tuple[Recommendation, LatencyMemory]:
    serving, current = service.serving, service.current
    text = _sentence(metric, seen)
    least = max(current, _safe_count(arrivals, _broke_at(memory, now)))

    def wait_for(why: str) -> tuple[Recommendation, LatencyMemory]:
        return Recommendation(least, DecisionReason.LATENCY_OBJECTIVE, f"{text}; {why}"), memory

    if serving < current:
        return wait_for(f"{current - serving} of {current} replicas start")
    if not _settled(memory, seen, now):
        return wait_for(f"{current} have served for {now - memory.since:.0f} s only")
    finished = service.demand.completed_per_replica
    load = arrivals / serving
    # While a queue drains few arrive; what replicas finish is then what they can carry.
    if not isinstance(finished, Unavailable) and math.isfinite(finished):
        load = max(load, finished)
    memory = _judged(memory, load, seen.seconds)
    alone = whole(service.at_once)
    if alone <= serving:
        text += "; every request has a replica to itself"
        return Recommendation(
            max(1, min(current, alone)), DecisionReason.LATENCY_OBJECTIVE, text
        ), memory
    if memory.out_of_reach is not None and seen.seconds <= WORSE * memory.out_of_reach:
        return Recommendation(
            current, DecisionReason.LATENCY_OBJECTIVE, f"{text}; more replicas did not shorten it"
        ), memory
    memory = _remember_miss(memory, load, now)
    if 0 < service.drains_in <= max(drain_horizon(service.lead_seconds), SETTLE_SECONDS):
        # What finishes for a while yet has waited in it: patience begins when it is gone.
        memory = replace(memory, since=now)
        return wait_for(f"the queue drains in {service.drains_in:.0f} s")
    asked = serving * (metric.step or min(seen.seconds / (metric.target / 1000), LARGEST_STEP))
    if 0 < memory.held_at < arrivals / serving:  # what was seen to hold is enough
        asked = min(asked, arrivals / memory.held_at)
    needed = max(least, min(max(serving + 1, whole(asked)), alone))
    memory = replace(memory, stepped=Stepped(serving, load, seen.seconds))
    return Recommendation(
        needed, DecisionReason.LATENCY_OBJECTIVE, f"{text}: {needed} for {serving}"
    ), memory


def _remember_miss(memory: LatencyMemory, load: float, now: float) -> LatencyMemory:
    known = _broke_at(memory, now)
    if load <= 0 or (known is not None and load >= known):
        return memory
    held_at = min(memory.held_at, SAFE_SHARE * load)
    return replace(memory, broke_at=load, broke_noted=now, held_at=held_at)


def _judged(memory: LatencyMemory, load: float, seconds: float) -> LatencyMemory:
    """Say whether the last step helped: by half of what it should have, at half of the relief."""
    before = memory.stepped
    if before is None or memory.serving <= before.serving:
        return memory
    share = (1 + before.serving / memory.serving) / 2
    if load > share * before.load:
        return memory
    if seconds <= share * before.seconds:
        return replace(memory, stepped=None)
    # What was missed is not a matter of load.
    return replace(memory, stepped=None, broke_at=None, out_of_reach=before.seconds)


def _kept(
    metric: MetricTarget,
    seen: _Seen | None,
    service: ServiceModel,
    arrivals: float,
    memory: LatencyMemory,
    now: float,
) -> tuple[Recommendation, LatencyMemory]:
    serving, current = service.serving, service.current
    broke_at = _broke_at(memory, now)
    held_at, lower = memory.held_at, serving
    if seen is not None and serving == current and _settled(memory, seen, now):
        load = arrivals / serving
        held_at = max(held_at, load)
        share = seen.seconds / (metric.target / 1000)
        if broke_at is not None and load > broke_at and share <= SPARE_SHARE:
            broke_at = None
        lower = _one_step_down(serving, share)
        memory = replace(
            memory,
            held_at=held_at,
            broke_at=None if broke_at is None else memory.broke_at,
            stepped=None,
            out_of_reach=None,
        )
    proven = whole(arrivals / held_at) if held_at > 0 else current
    needed = max(1, min(current, lower, proven))
    text = _sentence(metric, seen) if seen else f"{metric.label}: no request finished lately"
    safe = _safe_count(arrivals, broke_at)
    if broke_at is not None and safe > needed:
        needed = safe
        text += f"; it was missed at {figure(broke_at)} requests/s on a replica"
    return Recommendation(
        needed, DecisionReason.REAL_TIME_DEMAND, f"{text}: {needed} keep it"
    ), memory


def _safe_count(arrivals: float, broke_at: float | None) -> int:
    return 0 if broke_at is None else whole(arrivals / (SAFE_SHARE * broke_at))


def _one_step_down(serving: int, share: float) -> int:
    """Return the next lower count worth trying, the same where the latency has no room."""
    lower = max(1, min(serving - 1, math.ceil(SMALLEST_STEP_DOWN * serving)))
    return lower if share * serving / lower <= SPARE_SHARE else serving


def _settled(memory: LatencyMemory, seen: _Seen, now: float) -> bool:
    return now - memory.since >= SETTLE_SECONDS + max(seen.span, SETTLE_SECONDS)


def _broke_at(memory: LatencyMemory, now: float) -> float | None:
    if memory.broke_at is None:
        return None
    return memory.broke_at * (1 + FORGOTTEN_PER_SECOND * max(0.0, now - memory.broke_noted))


def _statistic(metric: MetricTarget, latencies: Latencies) -> _Seen | None:
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
    return _Seen(seconds, durations.count, max(recent.seconds for recent in chosen))


def _oldest_wait(metric: MetricTarget, latencies: Latencies) -> float:
    waits = [
        wait
        for name, wait in latencies.oldest_wait.items()
        if metric.priority_class in (None, name)
    ]
    return max(waits, default=0.0)


def _sentence(metric: MetricTarget, seen: _Seen) -> str:
    share = "mean" if metric.percentile is None else f"{metric.percentile:.0%}"
    whose = f" of {metric.priority_class}" if metric.priority_class else ""
    what = f"{share}{whose}" if seen.span else f"oldest wait{whose}"
    return (
        f"{metric.label} is {figure(seen.seconds * 1000)} ms ({what}) for an objective of "
        f"{figure(metric.target)}"
    )

"""How many replicas demand asks for now.

Per metric: `required = ceil(demand / (target utilisation x what one replica takes))`. Utilisation
is the headroom of rates and concurrency, which are capacities; a `QueueLength` target is already
the wait one accepts, so it is taken as it stands.

A queue says what the arrival rate cannot: that the figure the user gave for a replica is too
high. So beside the metrics a backlog (requests waiting longer than the policy's patience) asks
for the replicas that would drain it in time, by what a replica was *seen* to finish:
`ceil((arrivals + queue / drain time) / completions per ready replica)`, and never for more than
would seat everyone at once.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeGuard

from r1_operator.api.scaling import MetricType
from r1_operator.plan.scaling.policy import MetricTarget, ScalingPolicy
from r1_operator.plan.scaling.reasons import DecisionReason
from r1_operator.plan.signals.demand import Demand
from r1_operator.plan.signals.lead_time import drain_horizon
from r1_operator.plan.unavailable import LowerBound, Unavailable

TOLERANCE = 0.1
"""On the way down only: a count is kept while demand is worth nine tenths of it, as a
HorizontalPodAutoscaler keeps it. So no count that one would keep is ever let go before."""

_UNITS = {
    MetricType.REQUESTS_PER_SECOND: "requests/s",
    MetricType.TOKENS_PER_SECOND: "tokens/s",
    MetricType.CONCURRENCY: "concurrent requests",
    MetricType.QUEUE_LENGTH: "queued requests",
}


@dataclass(frozen=True, slots=True)
class Recommendation:
    """A count that something asks for: why, and the figures in a clause for people.

    `kept` is the highest count that it is no reason to go below: one that demand falls short of
    by no more than `TOLERANCE`.
    """

    replicas: int
    reason: DecisionReason
    clause: str
    kept: int = 0


def metric_value(kind: MetricType, demand: Demand) -> float | Unavailable:
    """Return the demand a metric counts; a figure that no demand can have is `Unavailable`."""
    value: float | Unavailable
    parts = (demand.in_flight, demand.queued)
    match kind:
        case MetricType.REQUESTS_PER_SECOND:
            value = demand.requests_per_second
        case MetricType.TOKENS_PER_SECOND:
            value = demand.tokens_per_second
        case MetricType.CONCURRENCY:
            value = sum(parts) if min(parts) >= 0 else min(parts)
        case MetricType.QUEUE_LENGTH:
            value = demand.queued
        case _:
            return Unavailable("NotCounted", f"{kind.value} is not counted by the gateways.")
    if isinstance(value, Unavailable) or (math.isfinite(value) and value >= 0):
        return value
    return Unavailable("InvalidSignals", f"{kind.value} reads {value}, which no demand can be.")


def capacity(metric: MetricTarget, utilization: float) -> float:
    """Return what is planned on one replica at a utilisation, in the metric's unit."""
    if metric.type is MetricType.QUEUE_LENGTH:
        return metric.target
    return metric.target * utilization


def replicas_for(value: float, metric: MetricTarget, utilization: float) -> int:
    """Return `ceil(value / capacity)`; a hair above a whole number is that number."""
    return whole(value / capacity(metric, utilization))


def metric_recommendations(
    policy: ScalingPolicy, demand: Demand
) -> list[Recommendation | Unavailable]:
    """Return what each counted metric of the policy asks for, in the policy's order."""
    needs: list[Recommendation | Unavailable] = []
    for metric in policy.metrics:
        if not metric.counted:
            continue
        value = metric_value(metric.type, demand)
        if isinstance(value, Unavailable):
            needs.append(value)
            continue
        worth = value / capacity(metric, policy.target_utilization)
        count = whole(worth)
        text = clause(value, metric, policy.target_utilization, count)
        needs.append(
            Recommendation(count, DecisionReason.REAL_TIME_DEMAND, text, within_tolerance(worth))
        )
    return needs


def recent_peak_floor(policy: ScalingPolicy, demand: Demand | Unavailable) -> int:
    """Return how many replicas the counted demand just fills, without headroom; 0 if unknown."""
    if isinstance(demand, Unavailable):
        return 0
    utilization = max(1.0, policy.target_utilization)
    values = [(m, metric_value(m.type, demand)) for m in policy.metrics if m.counted]
    filled = (replicas_for(v, m, utilization) for m, v in values if not isinstance(v, Unavailable))
    return min(max(filled, default=0), policy.highest)


def external_recommendations(
    policy: ScalingPolicy, values: Mapping[str, float | LowerBound | Unavailable]
) -> list[Recommendation | Unavailable]:
    """Return what each External metric asks for: `ceil(value / target)`, the target as it stands.

    `values` are by the metric's label; a value no replica count follows from is `Unavailable`. A lower
    bound gives both, a need that may raise the count and `Unavailable`, which keeps it from falling.
    """
    needs: list[Recommendation | Unavailable] = []
    for metric in policy.metrics:
        if metric.type is not MetricType.EXTERNAL:
            continue
        value = values.get(metric.label, _NOT_ASKED)
        if isinstance(value, LowerBound):
            partial = value.missing
            needs.append(replace(partial, message=f"{metric.label}: {partial.message}"))
            value = value.value
        if isinstance(value, Unavailable):
            needs.append(replace(value, message=f"{metric.label}: {value.message}"))
        elif not (math.isfinite(value) and value >= 0):
            message = f"{metric.label} reads {value}, from which no count follows."
            needs.append(Unavailable("InvalidMetric", message))
        else:
            worth = value / metric.target
            count = whole(worth)
            text = (
                f"{metric.label} of {figure(value)} needs {count} at {figure(metric.target)} each"
            )
            needs.append(
                Recommendation(count, DecisionReason.EXTERNAL_METRIC, text, within_tolerance(worth))
            )
    return needs


_NOT_ASKED = Unavailable("Pending", "Prometheus has not answered yet.")


def clause(value: float, metric: MetricTarget, utilization: float, need: int) -> str:
    """Return "12.4 requests/s need 5 at 70 % of 4 each"."""
    share = (
        f"{figure(metric.target)}"
        if metric.type is MetricType.QUEUE_LENGTH
        else f"{utilization:.0%} of {figure(metric.target)}"
    )
    return f"{figure(value)} {_UNITS[metric.type]} need {need} at {share} each"


def backlog_recommendation(
    policy: ScalingPolicy,
    demand: Demand,
    current: int,
    ready: int,
    seats: int,
    lead_seconds: float = 0.0,
) -> Recommendation | None:
    """Return what a queue that will not drain by itself asks for, None without one.

    While no completions were seen, pods that are still starting are the answer to the backlog
    already: more are asked for only once all of them serve. The time to drain is at least the
    lead time, up to a bound: a replica that comes after the queue has gone is of no use.
    """
    waiting = demand.queued
    if not (math.isfinite(waiting) and waiting > 0):
        return None
    if not demand.oldest_wait_seconds >= policy.backlog_patience_seconds:
        return None
    busy = demand.in_flight if math.isfinite(demand.in_flight) else 0.0
    seated = whole((busy + waiting) / max(1, seats))
    wait = f"{waiting:.0f} requests wait, the oldest for {demand.oldest_wait_seconds:.0f} s"
    finished = demand.completed_per_replica
    arrivals = metric_value(MetricType.REQUESTS_PER_SECOND, demand)
    if _positive(finished) and not isinstance(arrivals, Unavailable):
        drain_seconds = max(policy.backlog_drain_seconds, drain_horizon(lead_seconds))
        rate = arrivals + waiting / drain_seconds
        draining = whole(rate / finished)
        if draining < seated:
            text = (
                f"{wait}; with {figure(arrivals)} requests/s arriving and {figure(finished)} "
                f"finished by a replica each second, {draining} drain them in "
                f"{drain_seconds:.0f} s"
            )
            return Recommendation(draining, DecisionReason.QUEUE_BACKLOG, text)
    elif ready < current:
        text = f"{wait} while {current - ready} of {current} replicas start"
        return Recommendation(min(current, seated), DecisionReason.QUEUE_BACKLOG, text)
    return Recommendation(seated, DecisionReason.QUEUE_BACKLOG, f"{wait}; {seated} seat them all")


def whole(replicas: float) -> int:
    """Round up; a hair above a whole number is that number."""
    # A maximum is far below this; it keeps a quotient that overflowed countable.
    return math.ceil(min(replicas, 1e9) - 1e-9)


def within_tolerance(worth: float) -> int:
    """Return the highest count that `worth` replicas' worth of demand lies within a tenth of."""
    return math.floor(min(worth, 1e9) / (1 - TOLERANCE) + 1e-9)


def _positive(value: float | Unavailable) -> TypeGuard[float]:
    return not isinstance(value, Unavailable) and math.isfinite(value) and value > 0


def figure(value: float) -> str:
    """Return a figure as people write it: three digits that matter, no exponent."""
    if value >= 100 or value == round(value):
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"

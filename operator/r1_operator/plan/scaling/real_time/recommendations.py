"""Replicas that demand needs now.

Per metric: `required = ceil(demand / (target utilization x target per replica))`. Utilization is headroom
of rates and concurrency, which are capacities. A `QueueLength` target is the accepted queue itself and
is used as it is.

A queue shows what the arrival rate cannot: the configured capacity of a replica is too high. So a backlog
(requests queued longer than the policy's threshold) recommends the replicas that drain it in time, by
the measured throughput of a replica: `ceil((arrivals + queue / drain time) / completions per ready
replica)`, and never more than the replicas that seat all requests at once.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeGuard

from r1_common.contracts.unavailable import Unavailable
from r1_operator.api.scaling import MetricType
from r1_operator.plan.scaling.policy import MetricTarget, ScalingPolicy
from r1_operator.plan.scaling.reasons import DecisionReason
from r1_operator.plan.signals.demand import Demand
from r1_operator.plan.signals.lead_time import drain_horizon
from r1_operator.plan.unavailable import LowerBound

TOLERANCE = 0.1
"""For scale-downs only: a count stays while demand is at least 90 % of its planned load, as with a
HorizontalPodAutoscaler. So no count falls before a HorizontalPodAutoscaler would lower it."""

_UNITS = {
    MetricType.REQUESTS_PER_SECOND: "requests/s",
    MetricType.TOKENS_PER_SECOND: "tokens/s",
    MetricType.CONCURRENCY: "concurrent requests",
    MetricType.QUEUE_LENGTH: "queued requests",
}


@dataclass(frozen=True, slots=True)
class Recommendation:
    """A recommended count with its reason and a clause with the figures.

    `hold_floor` is the highest count that the demand is within `TOLERANCE` of: no reason to fall below.
    """

    replicas: int
    reason: DecisionReason
    clause: str
    hold_floor: int = 0


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
            return Unavailable("NotCounted", f"The gateways do not count {kind.value}.")
    if isinstance(value, Unavailable) or (math.isfinite(value) and value >= 0):
        return value
    return Unavailable("InvalidSignals", f"{kind.value} is {value}, which is not a valid demand.")


def capacity(metric: MetricTarget, utilization: float) -> float:
    """Return the planned load of one replica at a utilization, in the metric's unit."""
    if metric.type is MetricType.QUEUE_LENGTH:
        return metric.target
    return metric.target * utilization


def replicas_for(value: float, metric: MetricTarget, utilization: float) -> int:
    """Return `ceil(value / capacity)`; a hair above a whole number is that number."""
    return whole(value / capacity(metric, utilization))


def metric_recommendations(
    policy: ScalingPolicy, demand: Demand
) -> list[Recommendation | Unavailable]:
    """Return the recommendation of each counted metric, in the policy's order."""
    found: list[Recommendation | Unavailable] = []
    for metric in policy.metrics:
        if not metric.counted:
            continue
        value = metric_value(metric.type, demand)
        if isinstance(value, Unavailable):
            found.append(value)
            continue
        demand_in_replicas = value / capacity(metric, policy.target_utilization)
        count = whole(demand_in_replicas)
        text = clause(value, metric, policy.target_utilization, count)
        found.append(
            Recommendation(
                count, DecisionReason.REAL_TIME_DEMAND, text, within_tolerance(demand_in_replicas)
            )
        )
    return found


def filled_replicas(policy: ScalingPolicy, demand: Demand | Unavailable) -> tuple[int, str]:
    """Return how many replicas the counted demand fills completely, and the demand in words.

    0 if unknown. The words are of the metric that fills the most, such as "4.1 requests/s".
    """
    if isinstance(demand, Unavailable):
        return 0, ""
    utilization = max(1.0, policy.target_utilization)
    values = [(m, metric_value(m.type, demand)) for m in policy.metrics if m.counted]
    filled = [
        (replicas_for(value, metric, utilization), metric, value)
        for metric, value in values
        if not isinstance(value, Unavailable)
    ]
    if not filled:
        return 0, ""
    replicas, metric, value = max(filled, key=lambda one: one[0])
    return min(replicas, policy.effective_max), f"{figure(value)} {_UNITS[metric.type]}"


def external_recommendations(
    policy: ScalingPolicy, values: Mapping[str, float | LowerBound | Unavailable]
) -> list[Recommendation | Unavailable]:
    """Return the recommendation of each External metric: `ceil(value / target)`.

    `values` are by the metric's label. An invalid value gives `Unavailable`. A lower bound gives both: a
    recommendation that may raise the count, and `Unavailable`, which prevents a scale-down.
    """
    found: list[Recommendation | Unavailable] = []
    for metric in policy.metrics:
        if metric.type is not MetricType.EXTERNAL:
            continue
        value = values.get(metric.label, _PENDING)
        if isinstance(value, LowerBound):
            partial = value.missing
            found.append(replace(partial, message=f"{metric.label}: {partial.message}"))
            value = value.value
        if isinstance(value, Unavailable):
            found.append(replace(value, message=f"{metric.label}: {value.message}"))
        elif not (math.isfinite(value) and value >= 0):
            message = f"{metric.label} is {value}: a value must be finite and at least 0."
            found.append(Unavailable("InvalidMetric", message))
        else:
            demand_in_replicas = value / metric.target
            count = whole(demand_in_replicas)
            text = f"{metric.label} is {figure(value)} and needs {count} at {figure(metric.target)} per replica"
            found.append(
                Recommendation(
                    count,
                    DecisionReason.EXTERNAL_METRIC,
                    text,
                    within_tolerance(demand_in_replicas),
                )
            )
    return found


_PENDING = Unavailable("Pending", "Prometheus has not answered yet: wait for the first query.")


def clause(value: float, metric: MetricTarget, utilization: float, need: int) -> str:
    """Return "12.4 requests/s need 5 at 70% of 4 per replica"."""
    share = (
        f"{figure(metric.target)}"
        if metric.type is MetricType.QUEUE_LENGTH
        else f"{utilization:.0%} of {figure(metric.target)}"
    )
    return f"{figure(value)} {_UNITS[metric.type]} need {need} at {share} per replica"


def backlog_recommendation(
    policy: ScalingPolicy,
    demand: Demand,
    current: int,
    ready: int,
    seats: int,
    lead_seconds: float = 0.0,
) -> Recommendation | None:
    """Return the recommendation for a queue that does not drain by itself, None without one.

    Without completions, the pods that are starting are the answer to the backlog already: more are
    recommended only once all of them serve. The time to drain is at least the lead time, up to a
    bound: a replica that starts after the queue is empty has no effect.
    """
    waiting = demand.queued
    if not (math.isfinite(waiting) and waiting > 0):
        return None
    if not demand.oldest_wait_seconds >= policy.backlog_threshold_seconds:
        return None
    busy = demand.in_flight if math.isfinite(demand.in_flight) else 0.0
    seated = whole((busy + waiting) / max(1, seats))
    wait = f"{waiting:.0f} requests are queued, the oldest for {demand.oldest_wait_seconds:.0f} s"
    completed = demand.completed_per_replica
    arrivals = metric_value(MetricType.REQUESTS_PER_SECOND, demand)
    if _positive(completed) and not isinstance(arrivals, Unavailable):
        drain_seconds = max(policy.backlog_drain_seconds, drain_horizon(lead_seconds))
        rate = arrivals + waiting / drain_seconds
        draining = whole(rate / completed)
        if draining < seated:
            text = (
                f"{wait}; at {figure(arrivals)} requests/s arriving and {figure(completed)} "
                f"requests/s completed per replica, {draining} replicas drain the queue in "
                f"{drain_seconds:.0f} s"
            )
            return Recommendation(draining, DecisionReason.QUEUE_BACKLOG, text)
    elif ready < current:
        text = f"{wait}, and {current - ready} of {current} replicas are starting"
        return Recommendation(min(current, seated), DecisionReason.QUEUE_BACKLOG, text)
    return Recommendation(
        seated, DecisionReason.QUEUE_BACKLOG, f"{wait}; {seated} have a seat for each request"
    )


def whole(replicas: float) -> int:
    """Round up; a hair above a whole number is that number."""
    # The bound keeps an overflowed quotient finite; every maximum is far below it.
    return math.ceil(min(replicas, 1e9) - 1e-9)


def within_tolerance(demand_in_replicas: float) -> int:
    """Return the highest count of whose planned load the demand is at least 90 %."""
    return math.floor(min(demand_in_replicas, 1e9) / (1 - TOLERANCE) + 1e-9)


def _positive(value: float | Unavailable) -> TypeGuard[float]:
    return not isinstance(value, Unavailable) and math.isfinite(value) and value > 0


def figure(value: float) -> str:
    """Return a figure with about three significant digits and no exponent."""
    if value >= 100 or value == round(value):
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def count_of(replicas: int) -> str:
    """Return "1 replica", "2 replicas"."""
    return f"{replicas} replica" if replicas == 1 else f"{replicas} replicas"


def duration(seconds: float) -> str:
    """Return "45 s", "15 min"; minutes where they are exact, or for a quarter of an hour and more."""
    if seconds >= 900 or (seconds >= 120 and seconds % 60 == 0):
        return f"{seconds / 60:.0f} min"
    return f"{seconds:.0f} s"

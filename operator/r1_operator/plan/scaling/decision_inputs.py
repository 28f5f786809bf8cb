"""Inputs of a decision as JSON: the figures that `r1 explain` prints below the message."""

from __future__ import annotations

from r1_common.contracts.unavailable import Unavailable
from r1_operator.api.scaling import LATENCY_TYPES, MetricType
from r1_operator.plan.placement.schedulable import Placement
from r1_operator.plan.scaling.decision import Json
from r1_operator.plan.scaling.forecast_rules.peak_quantile import SHORTAGE_PRICE
from r1_operator.plan.scaling.inputs import ScalingInputs
from r1_operator.plan.scaling.policy import ScalingPolicy
from r1_operator.plan.scaling.real_time.latency_objectives import LatencyMemory, milliseconds_of
from r1_operator.plan.scaling.real_time.recommendations import metric_value
from r1_operator.plan.scaling.scaling_state import ScalingState
from r1_operator.plan.signals.demand import Demand
from r1_operator.plan.signals.forecast import ReceivedForecast, at_level
from r1_operator.plan.unavailable import LowerBound


def decision_inputs(
    user_policy: ScalingPolicy,
    policy: ScalingPolicy,
    observed: ScalingInputs,
    state: ScalingState,
    now: float,
) -> dict[str, Json]:
    """Return every input of a decision under stable names.

    `user_policy` is the policy as written, `policy` has the measured capacity.
    """
    return {
        "ready": observed.ready,
        "seatsPerReplica": observed.seats_per_replica,
        "demand": _demand(observed.demand),
        "demandInReplicas": _demand_in_replicas(policy, observed.demand),
        "latency": _latencies(policy, observed, state),
        "external": {label: _external(value) for label, value in observed.external.items()},
        "capacity": _capacity(user_policy, policy, state),
        "leadTime": None
        if observed.lead_time is None
        else {
            "seconds": observed.lead_time.seconds,
            "measuredStarts": observed.lead_time.samples,
            "nodeWaitSeconds": observed.lead_time.node_wait_seconds,
        },
        "schedulable": _schedulable(observed.placement),
        "forecast": _forecast(observed.forecast, policy),
        "policy": {
            "minReplicas": policy.min_replicas,
            "maxReplicas": policy.max_replicas,
            "budgets": {one.reason.value: one.replicas for one in policy.ceilings},
            "targetUtilization": policy.target_utilization,
            "metrics": [
                {"type": metric.label, "target": metric.target} for metric in user_policy.metrics
            ],
            "scaleDown": policy.down.policy.value,
            "activation": policy.forecast.activation.value,
            "quantile": policy.forecast.quantile,
            "shortagePrice": None if policy.forecast.quantile is not None else SHORTAGE_PRICE,
        },
        "scalingState": {
            "observedSeconds": state.observed_seconds(now),
            "idleSeconds": now - state.last_active_at,
            "highestRecommendation": state.highest_recommendations[0].replicas
            if state.highest_recommendations
            else None,
        },
    }


def _demand(demand: Demand | Unavailable) -> Json:
    if isinstance(demand, Unavailable):
        return _missing(demand)
    return {
        "requestsPerSecond": _rate(demand.requests_per_second),
        "tokensPerSecond": _rate(demand.tokens_per_second),
        "completedPerReplica": _rate(demand.completed_per_replica),
        "rejectedPerSecond": _rate(demand.rejected_per_second),
        "inFlight": demand.in_flight,
        "queued": demand.queued,
        "buffered": demand.buffered,
        "oldestWaitSeconds": demand.oldest_wait_seconds,
        "unreachableGateways": list(demand.missing),
    }


def _demand_in_replicas(policy: ScalingPolicy, demand: Demand | Unavailable) -> Json:
    """Return the load in fully used replicas; None where no metric is known."""
    if isinstance(demand, Unavailable):
        return None
    known = [
        value / metric.target
        for metric in policy.metrics
        if metric.counted
        and not isinstance(value := metric_value(metric.type, demand), Unavailable)
    ]
    return max(known, default=None)


def _latencies(policy: ScalingPolicy, observed: ScalingInputs, state: ScalingState) -> Json:
    found: dict[str, Json] = {}
    for metric in policy.metrics:
        if metric.type not in LATENCY_TYPES:
            continue
        memory = state.latency.get(metric.label, LatencyMemory())
        milliseconds = milliseconds_of(metric, observed.latencies)
        found[metric.label] = {
            "milliseconds": _rate(milliseconds) if milliseconds is not None else None,
            "objectiveMilliseconds": metric.target,
            "metAtPerReplica": memory.met_at,
            "missedAtPerReplica": memory.missed_at,
        }
    return found


def _capacity(user_policy: ScalingPolicy, policy: ScalingPolicy, state: ScalingState) -> Json:
    """Return the measured capacity of a replica beside the configured one, in requests/s."""
    estimate = state.capacity.estimate()
    figures = [
        (configured.target, planned.target)
        for configured, planned in zip(user_policy.metrics, policy.metrics, strict=True)
        if configured.type is MetricType.REQUESTS_PER_SECOND
    ]
    if not figures or estimate is None:
        return {"samples": len(state.capacity.samples)}
    return {
        "target": figures[0][0],
        "learned": estimate.mean,
        "error": estimate.error,
        "samples": estimate.samples,
        "confirmed": estimate.confirmed,
        "planned": figures[0][1],
    }


def _schedulable(placement: Placement) -> Json:
    schedulable = placement.schedulable
    if schedulable is None:
        return None
    found: dict[str, Json] = {
        "placed": placement.placed,
        "unschedulable": placement.unschedulable,
    }
    if isinstance(schedulable, Unavailable):
        return found | {"unavailable": schedulable.reason, "message": schedulable.message}
    return found | {
        "replicas": schedulable.replicas,
        "nodes": schedulable.suitable,
        "summary": schedulable.summary,
    }


def _forecast(forecast: ReceivedForecast | Unavailable | None, policy: ScalingPolicy) -> Json:
    if forecast is None:
        return None
    if isinstance(forecast, Unavailable):
        return _missing(forecast)
    level = policy.peak_quantile(forecast.lead_seconds)
    return {
        "model": forecast.model,
        "metric": forecast.metric.value,
        "issuedAt": forecast.issued_at,
        "validUntil": forecast.valid_until,
        "leadSeconds": forecast.lead_seconds,
        "quantile": level,
        "peakOverLead": {f"{q:g}": value for q, value in sorted(forecast.peak_over_lead.items())},
        "highestPoint": max(
            (at_level(point.quantiles, level) for point in forecast.points if point.quantiles),
            default=None,
        ),
        "gate": {"acts": forecast.gate.acts, "reason": forecast.gate.reason},
    }


def _rate(value: float | Unavailable) -> Json:
    return _missing(value) if isinstance(value, Unavailable) else value


def _external(value: float | LowerBound | Unavailable) -> Json:
    if isinstance(value, LowerBound):
        return {"atLeast": value.value} | _missing(value.missing)
    return _rate(value)


def _missing(value: Unavailable) -> dict[str, Json]:
    return {"unavailable": value.reason, "message": value.message}

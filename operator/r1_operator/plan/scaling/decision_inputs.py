"""The figures a decision saw, as JSON: what `r1 explain` prints under the sentence."""

from __future__ import annotations

from r1_operator.api.scaling import LATENCY_TYPES, MetricType
from r1_operator.plan.placement.schedulable import Placement
from r1_operator.plan.scaling.decision import Json
from r1_operator.plan.scaling.inputs import ScalingInputs
from r1_operator.plan.scaling.latency_objectives import LatencyMemory, milliseconds_of
from r1_operator.plan.scaling.peak_quantile import SHORTAGE_PRICE
from r1_operator.plan.scaling.policy import ScalingPolicy
from r1_operator.plan.scaling.recommendations import metric_value
from r1_operator.plan.scaling.scaling_state import ScalingState
from r1_operator.plan.signals.demand import Demand
from r1_operator.plan.signals.forecast import ReceivedForecast, at_level
from r1_operator.plan.unavailable import LowerBound, Unavailable


def decision_inputs(
    asked: ScalingPolicy,
    policy: ScalingPolicy,
    observed: ScalingInputs,
    history: ScalingState,
    now: float,
) -> dict[str, Json]:
    """Return every input of a decision under stable names.

    `asked` is the policy as the user wrote it, `policy` the one with the learned capacity.
    """
    return {
        "ready": observed.ready,
        "seatsPerReplica": observed.seats_per_replica,
        "demand": _demand(observed.demand),
        "demandInReplicas": _worth(policy, observed.demand),
        "latency": _latencies(policy, observed, history),
        "external": {label: _external(value) for label, value in observed.external.items()},
        "capacity": _capacity(asked, policy, history),
        "lead": None
        if observed.lead is None
        else {
            "seconds": observed.lead.seconds,
            "measuredStarts": observed.lead.samples,
            "nodeWaitSeconds": observed.lead.node_wait_seconds,
        },
        "room": _room(observed.placement),
        "forecast": _forecast(observed.forecast, policy),
        "policy": {
            "minReplicas": policy.min_replicas,
            "maxReplicas": policy.max_replicas,
            "budgets": {one.reason.value: one.replicas for one in policy.ceilings},
            "targetUtilization": policy.target_utilization,
            "metrics": [
                {"type": metric.label, "target": metric.target} for metric in asked.metrics
            ],
            "scaleDown": policy.down.policy.value,
            "activation": policy.forecast.activation.value,
            "quantile": policy.forecast.quantile,
            "shortagePrice": None if policy.forecast.quantile is not None else SHORTAGE_PRICE,
        },
        "history": {
            "watchedSeconds": history.watched_for(now),
            "idleSeconds": now - history.active_at,
            "highestRecommendation": history.highest[0].replicas if history.highest else None,
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
        "held": demand.held,
        "oldestWaitSeconds": demand.oldest_wait_seconds,
        "silentGateways": list(demand.missing),
    }


def _worth(policy: ScalingPolicy, demand: Demand | Unavailable) -> Json:
    """How many replicas' worth of load there is, each taken as full; None where none is known."""
    if isinstance(demand, Unavailable):
        return None
    known = [
        value / metric.target
        for metric in policy.metrics
        if metric.counted
        and not isinstance(value := metric_value(metric.type, demand), Unavailable)
    ]
    return max(known, default=None)


def _latencies(policy: ScalingPolicy, observed: ScalingInputs, history: ScalingState) -> Json:
    found: dict[str, Json] = {}
    for metric in policy.metrics:
        if metric.type not in LATENCY_TYPES:
            continue
        memory = history.latency.get(metric.label, LatencyMemory())
        milliseconds = milliseconds_of(metric, observed.latencies)
        found[metric.label] = {
            "milliseconds": _rate(milliseconds) if milliseconds is not None else None,
            "objectiveMilliseconds": metric.target,
            "metAtPerReplica": memory.held_at,
            "missedAtPerReplica": memory.broke_at,
        }
    return found


def _capacity(asked: ScalingPolicy, policy: ScalingPolicy, history: ScalingState) -> Json:
    """What a replica was seen to finish beside the figure it was given, in requests/s."""
    estimate = history.capacity.estimate()
    figures = [
        (theirs.target, ours.target)
        for theirs, ours in zip(asked.metrics, policy.metrics, strict=True)
        if theirs.type is MetricType.REQUESTS_PER_SECOND
    ]
    if not figures or estimate is None:
        return {"samples": len(history.capacity.samples)}
    return {
        "target": figures[0][0],
        "learned": estimate.mean,
        "error": estimate.error,
        "samples": estimate.samples,
        "proven": estimate.proven,
        "planned": figures[0][1],
    }


def _room(placement: Placement) -> Json:
    room = placement.room
    if room is None:
        return None
    found: dict[str, Json] = {"placed": placement.placed, "withoutNode": placement.stuck}
    if isinstance(room, Unavailable):
        return found | {"unavailable": room.reason, "message": room.message}
    return found | {"fits": room.replicas, "nodes": room.suitable, "words": room.words}


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

"""The figures a decision saw, as JSON: what `r1 explain` prints under the sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from r1_operator.plan.decision import Json
from r1_operator.plan.demand import Demand
from r1_operator.plan.forecasts import Forecast, at_level
from r1_operator.plan.history import History
from r1_operator.plan.policy import ScalingPolicy
from r1_operator.plan.unavailable import Unavailable

if TYPE_CHECKING:
    from r1_operator.plan.scaling import ScalingInputs


def evidence(
    policy: ScalingPolicy, observed: ScalingInputs, history: History, now: float
) -> dict[str, Json]:
    """Return every input of a decision under stable names."""
    return {
        "ready": observed.ready,
        "seatsPerReplica": observed.seats_per_replica,
        "demand": _demand(observed.demand),
        "forecast": _forecast(observed.forecast, policy.forecast.quantile),
        "policy": {
            "minReplicas": policy.min_replicas,
            "maxReplicas": policy.max_replicas,
            "targetUtilization": policy.target_utilization,
            "metrics": [
                {"type": metric.type.value, "target": metric.target} for metric in policy.metrics
            ],
            "scaleDown": policy.down.policy.value,
            "activation": policy.forecast.activation.value,
            "quantile": policy.forecast.quantile,
        },
        "history": {
            "watchedSeconds": history.watched_for(now),
            "idleSeconds": now - history.active_at,
            "highestNeed": max((noted.replicas for noted in history.highest), default=None),
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


def _forecast(forecast: Forecast | Unavailable | None, level: float) -> Json:
    if forecast is None:
        return None
    if isinstance(forecast, Unavailable):
        return _missing(forecast)
    return {
        "model": forecast.model,
        "metric": forecast.metric.value,
        "issuedAt": forecast.issued_at,
        "validUntil": forecast.valid_until,
        "leadSeconds": forecast.lead_seconds,
        "peakOverLead": {f"{q:g}": value for q, value in sorted(forecast.peak_over_lead.items())},
        "highestPoint": max(
            (at_level(point.quantiles, level) for point in forecast.points if point.quantiles),
            default=None,
        ),
        "gate": {"acts": forecast.gate.acts, "reason": forecast.gate.reason},
    }


def _rate(value: float | Unavailable) -> Json:
    return _missing(value) if isinstance(value, Unavailable) else value


def _missing(value: Unavailable) -> Json:
    return {"unavailable": value.reason, "message": value.message}

"""Replica count of a resource and the reason for it.

`decide` collects recommendations (current demand, a backlog, latency objectives, the forecast), takes the
highest and passes it through an ordered chain of limiters. The first step shows the source of the count.
Each further step shows one limiter's change. The last step that changed the count gives the reason.

The function is pure: it depends on the policy, the inputs, the state and `now` alone. It is total: with
missing, late or impossible inputs it still returns a decision, and such inputs never lower the count.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from r1_common.contracts.unavailable import Unavailable
from r1_operator.api.scaling import LATENCY_TYPES
from r1_operator.plan.scaling import hpa_simulation
from r1_operator.plan.scaling.decision import (
    Decision,
    DecisionStep,
    ForecastContribution,
    Json,
)
from r1_operator.plan.scaling.decision_inputs import decision_inputs
from r1_operator.plan.scaling.forecast_rules.forecast_approval import apply_approval
from r1_operator.plan.scaling.forecast_rules.forecast_budget import ForecastBudget, baseline
from r1_operator.plan.scaling.inputs import ScalingInputs
from r1_operator.plan.scaling.limiters import LIMITERS, LimiterInput
from r1_operator.plan.scaling.policy import ScalingPolicy
from r1_operator.plan.scaling.predictive import predictive_recommendation
from r1_operator.plan.scaling.real_time.capacity_estimate import with_learned
from r1_operator.plan.scaling.real_time.latency_objectives import (
    LatencyMemory,
    ServiceModel,
    latency_recommendation,
)
from r1_operator.plan.scaling.real_time.recommendations import (
    Recommendation,
    backlog_recommendation,
    capacity,
    count_of,
    external_recommendations,
    filled_replicas,
    metric_recommendations,
    metric_value,
)
from r1_operator.plan.scaling.reasons import DecisionMode, DecisionReason
from r1_operator.plan.scaling.scaling_state import ScalingState
from r1_operator.plan.scaling.seat_reservation import reservation_of
from r1_operator.plan.signals.demand import Demand


def decide(
    policy: ScalingPolicy, observed: ScalingInputs, state: ScalingState, now: float
) -> tuple[Decision, ScalingState]:
    """Return the decision at `now` and the state for the next call.

    `now` is in seconds of a clock that never steps (`r1_common.clock`): every window, rate limit and
    age in the state is a difference of two of its readings.
    """
    current = max(0, observed.current)
    state = state.started(now, current)
    learned = state.capacity.with_observation(observed.demand, observed.ready, now)
    budget = _charged_budget(policy, observed, state, current, now)
    state = replace(state, capacity=learned, forecast_budget=budget)
    user_policy, policy = policy, with_learned(policy, learned)
    recommendations, missing = _real_time(policy, observed, current)
    objectives, unknown, state = _objectives(policy, observed, state, now)
    recommendations, missing = [*recommendations, *objectives], (*missing, *unknown)
    forecast = apply_approval(observed.forecast, observed.forecast_approval)
    if forecast is not None:  # recent peaks matter beside a forecast only
        state = state.with_demand(now, *filled_replicas(policy, observed.demand))
    predictive = predictive_recommendation(
        policy, forecast, observed.demand, recommendations, state, now
    )
    contribution = predictive.contribution
    has_requests = _has_requests(observed.demand)
    demand_step = _first_step(current, recommendations, predictive.recommendation, missing)
    desired = demand_step.after

    state = state.with_recommendation(
        now,
        max(desired, current) if missing else desired,
        max((one.hold_floor for one in recommendations), default=0),
        active=bool(missing) or has_requests or any(one.replicas > 0 for one in recommendations),
        policy=policy,
    )
    hpa = _simulate_hpa(user_policy, observed.demand, state.hpa, current, now)
    # A forecast of arrivals does not cover latencies and External values.
    confirmed = predictive.confirms_scale_down and all(m.counted for m in policy.metrics)
    limiter_input = LimiterInput(
        policy,
        state,
        now,
        current,
        missing,
        has_requests,
        hpa.replicas if confirmed and hpa is not None else None,
        predictive.recent_peak_floor,
        observed.placement,
    )
    steps = [demand_step]
    wait: float | None = None
    for name, limiter in LIMITERS:
        limit = limiter(limiter_input, desired)
        if limit is not None:
            steps.append(DecisionStep(name, desired, limit.replicas, limit.reason, limit.message))
            desired = limit.replicas
            wait = limit.scale_down_in

    state = state.with_decision(
        now,
        desired - current,
        policy,
        overforecast_since=predictive.overforecast_since,
        hpa=hpa,
    )
    acting = contribution is not None and contribution.acting
    deciding = next((step for step in reversed(steps[1:]) if _decides(step)), demand_step)
    decision = Decision(
        at=now,
        current=current,
        replicas=desired,
        reason=deciding.reason,
        message=deciding.message,
        mode=DecisionMode.PREDICTIVE if acting else DecisionMode.REACTIVE,
        steps=tuple(steps),
        inputs=decision_inputs(user_policy, policy, observed, state, now),
        forecast=contribution,
        hpa_replicas=None if state.hpa is None else state.hpa.replicas,
        seat_reservations=reservation_of(
            observed.class_arrivals, observed.slo_targets, observed.ready, desired
        ),
        forecast_approval=observed.forecast_approval,
        next_scale_down_seconds=wait if desired > demand_step.after else None,
    )
    return decision, state


def fixed(replicas: int, current: int, now: float) -> Decision:
    """Return the decision of a resource without autoscaling: `spec.replicas`."""
    message = f"{count_of(replicas)}: spec.replicas sets the count (spec.autoscaling is not set)."
    step = DecisionStep("Manual", current, replicas, DecisionReason.MANUAL, message)
    return Decision(
        now, current, replicas, DecisionReason.MANUAL, message, DecisionMode.MANUAL, (step,)
    )


def _real_time(
    policy: ScalingPolicy, observed: ScalingInputs, current: int
) -> tuple[list[Recommendation], tuple[Unavailable, ...]]:
    demand = observed.demand
    if isinstance(demand, Unavailable):
        return [], (demand,)
    results = [
        *metric_recommendations(policy, demand),
        *external_recommendations(policy, observed.external),
    ]
    recommendations = [one for one in results if isinstance(one, Recommendation)]
    missing = [one for one in results if isinstance(one, Unavailable)]
    lead = 0.0 if observed.lead_time is None else observed.lead_time.seconds
    backlog = backlog_recommendation(
        policy, demand, current, observed.ready, observed.seats_per_replica, lead
    )
    if backlog is not None:
        recommendations.append(backlog)
    if demand.missing:
        names = ", ".join(demand.missing)
        missing.append(Unavailable("GatewayUnreachable", f"Gateway {names} does not answer."))
    return recommendations, tuple(missing)


def _objectives(
    policy: ScalingPolicy, observed: ScalingInputs, state: ScalingState, now: float
) -> tuple[list[Recommendation], list[Unavailable], ScalingState]:
    """Return the recommendations of the latency objectives, the unknown ones and the new state."""
    metrics = [metric for metric in policy.metrics if metric.type in LATENCY_TYPES]
    if not metrics or isinstance(observed.demand, Unavailable):
        return [], [], state
    lead = 0.0 if observed.lead_time is None else observed.lead_time.seconds
    service = ServiceModel(observed.demand, max(0, observed.current), observed.ready, lead)
    recommendations: list[Recommendation] = []
    unknown: list[Unavailable] = []
    memories: dict[str, LatencyMemory] = {}
    for metric in metrics:
        memory = state.latency.get(metric.label, LatencyMemory())
        result, memories[metric.label] = latency_recommendation(
            metric, observed.latencies, service, memory, now
        )
        if isinstance(result, Unavailable):
            unknown.append(result)
        else:
            recommendations.append(result)
    return recommendations, unknown, replace(state, latency=memories)


def _first_step(
    current: int,
    recommendations: Sequence[Recommendation],
    predicted: Recommendation | None,
    missing: tuple[Unavailable, ...],
) -> DecisionStep:
    """Return the source of the count: the highest recommendation, real time before forecast."""
    if not recommendations and missing:
        # The forecast alone may raise the count; without real-time demand it may not lower it.
        if predicted is not None and predicted.replicas > current:
            return _step(current, predicted)
        message = f"Keeping {count_of(current)}: demand is unknown. {missing[0].message}"
        return DecisionStep("Demand", current, current, DecisionReason.METRICS_UNAVAILABLE, message)
    now = max(recommendations, key=lambda one: one.replicas, default=None)
    highest = now
    if predicted is not None and (now is None or predicted.replicas > now.replicas):
        highest = predicted
    if highest is None:
        message = f"Keeping {count_of(current)}: the policy has no metric. Add one to metrics."
        return DecisionStep("Demand", current, current, DecisionReason.METRICS_UNAVAILABLE, message)
    if highest is predicted and now is not None:
        highest = replace(highest, clause=f"{highest.clause}; current demand: {now.clause}")
    return _step(current, highest)


def _decides(step: DecisionStep) -> bool:
    """Whether a step gives the reason: it changed the count, or a budget is broken."""
    return step.changed or step.reason is DecisionReason.OVER_BUDGET


def _step(current: int, recommendation: Recommendation) -> DecisionStep:
    reason, replicas = recommendation.reason, recommendation.replicas
    if current == 0 and replicas > 0 and reason is not DecisionReason.FORECAST_DEMAND:
        reason = DecisionReason.SCALING_FROM_ZERO
    elif replicas == 0 and reason is DecisionReason.REAL_TIME_DEMAND:
        reason = DecisionReason.IDLE
    elif replicas == current and reason in (
        DecisionReason.REAL_TIME_DEMAND,
        DecisionReason.EXTERNAL_METRIC,
    ):
        reason = DecisionReason.WITHIN_TARGET
    message = f"{count_of(replicas)}: {recommendation.clause}."
    return DecisionStep("Demand", current, replicas, reason, message)


def _charged_budget(
    policy: ScalingPolicy, observed: ScalingInputs, state: ScalingState, current: int, now: float
) -> ForecastBudget:
    if observed.forecast is None or state.hpa is None:
        return state.forecast_budget
    # Other metrics may add replicas too; that difference is not the forecast's.
    if not all(metric.counted for metric in policy.metrics):
        return state.forecast_budget
    replicas = baseline(state.hpa.replicas, policy.target_utilization)
    return state.forecast_budget.charged(current, replicas, now)


def _has_requests(demand: Demand | Unavailable) -> bool:
    if isinstance(demand, Unavailable):
        return False
    return any(
        math.isfinite(count) and count > 0
        for count in (demand.queued, demand.buffered, demand.in_flight)
    )


def _simulate_hpa(
    policy: ScalingPolicy,
    demand: Demand | Unavailable,
    state: hpa_simulation.HpaState | None,
    current: int,
    now: float,
) -> hpa_simulation.HpaState | None:
    """Simulate a HorizontalPodAutoscaler on the same demand, in units of planned replicas."""
    in_replicas: float | None = None
    if not isinstance(demand, Unavailable) and policy.metrics:
        utilization = policy.target_utilization
        counted = [metric for metric in policy.metrics if metric.counted]
        values = [(metric, metric_value(metric.type, demand)) for metric in counted]
        known = [v / capacity(m, utilization) for m, v in values if not isinstance(v, Unavailable)]
        in_replicas = max(known) if known and len(known) == len(values) else None
    if state is None:
        if in_replicas is None:
            return None
        state = hpa_simulation.HpaState(max(1, current))
    return hpa_simulation.simulate_sync(
        state, in_replicas, 1.0, policy.min_replicas, policy.max_replicas, now
    )


__all__ = ["Decision", "ForecastContribution", "Json", "ScalingState", "decide", "fixed"]

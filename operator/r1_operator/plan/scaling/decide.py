"""How many replicas, and why: the decision itself.

`decide` asks what is needed (demand now, a backlog, the forecast; the highest wins), then passes
that count through an ordered chain of limiters. The first step shows where the count came from,
each further one what it did to it, and the last that changed it gives the decision its reason.

It is a pure function of the policy, what was observed, what it remembers and `now`. It is total:
whatever is missing, late or impossible in the input, it returns a decision, and none of that can
lower the count.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from r1_operator.api.scaling import LATENCY_TYPES
from r1_operator.plan.scaling import hpa_simulation
from r1_operator.plan.scaling.capacity_estimate import with_learned
from r1_operator.plan.scaling.decision import Decision, DecisionStep, ForecastNote, Json
from r1_operator.plan.scaling.decision_inputs import decision_inputs
from r1_operator.plan.scaling.forecast_approval import approved
from r1_operator.plan.scaling.forecast_budget import ForecastBudget, baseline
from r1_operator.plan.scaling.inputs import ScalingInputs
from r1_operator.plan.scaling.latency_objectives import (
    LatencyMemory,
    ServiceModel,
    latency_recommendation,
)
from r1_operator.plan.scaling.limiters import LIMITERS, LimiterInput
from r1_operator.plan.scaling.policy import ScalingPolicy
from r1_operator.plan.scaling.predictive import predictive_recommendation
from r1_operator.plan.scaling.reasons import DecisionMode, DecisionReason
from r1_operator.plan.scaling.recommendations import (
    Recommendation,
    backlog_recommendation,
    capacity,
    external_recommendations,
    metric_recommendations,
    metric_value,
    recent_peak_floor,
)
from r1_operator.plan.scaling.scaling_state import ScalingState
from r1_operator.plan.scaling.seat_reservation import reservation_of
from r1_operator.plan.signals.demand import Demand
from r1_operator.plan.unavailable import Unavailable


def decide(
    policy: ScalingPolicy, observed: ScalingInputs, history: ScalingState, now: float
) -> tuple[Decision, ScalingState]:
    """Return the decision at `now` and the memory to pass in next time.

    `now` is in seconds of a clock that never steps (`r1_common.clock`): every window, rate limit and
    age in the memory is a difference of two of its readings.
    """
    current = max(0, observed.current)
    history = history.started(now, current)
    learned = history.capacity.watched(observed.demand, observed.ready, now)
    allowance = _settled(policy, observed, history, current, now)
    history = replace(history, capacity=learned, allowance=allowance)
    asked, policy = policy, with_learned(policy, learned)
    needs, missing = _real_time(policy, observed, current)
    objectives, unknown, history = _objectives(policy, observed, history, now)
    needs, missing = [*needs, *objectives], (*missing, *unknown)
    forecast = approved(observed.forecast, observed.proof)
    if forecast is not None:  # nobody else asks what came
        history = history.met(now, recent_peak_floor(policy, observed.demand))
    ahead = predictive_recommendation(policy, forecast, observed.demand, needs, history, now)
    foreseen, note = ahead.need, ahead.note
    waiting = _anything_waits(observed.demand)
    demand_step = _first_step(current, needs, foreseen, missing)
    wanted = demand_step.after

    recommended = max(wanted, current) if missing else wanted
    kept = max((need.kept for need in needs), default=0)
    history = history.noted(
        now,
        recommended,
        kept,
        active=bool(missing) or waiting or any(need.replicas > 0 for need in needs),
        policy=policy,
    )
    reactive = _imagine(asked, observed.demand, history.reactive, current, now)
    # A forecast of arrivals says nothing about latencies and values from elsewhere.
    vouched = ahead.vouches and all(metric.counted for metric in policy.metrics)
    plain = reactive.replicas if vouched and reactive is not None else None
    situation = LimiterInput(
        policy,
        history,
        now,
        current,
        missing,
        waiting,
        plain,
        ahead.returning,
        observed.placement,
    )
    steps = [demand_step]
    for name, limiter in LIMITERS:
        limit = limiter(situation, wanted)
        if limit is not None:
            steps.append(DecisionStep(name, wanted, limit.replicas, limit.reason, limit.message))
            wanted = limit.replicas

    history = history.decided(
        now,
        wanted - current,
        policy,
        promised_since=ahead.promised_since,
        reactive=reactive,
    )
    deciding = next((step for step in reversed(steps[1:]) if _decides(step)), demand_step)
    decision = Decision(
        at=now,
        current=current,
        replicas=wanted,
        reason=deciding.reason,
        message=deciding.message,
        mode=DecisionMode.PREDICTIVE if note is not None and note.acting else DecisionMode.REACTIVE,
        steps=tuple(steps),
        inputs=decision_inputs(asked, policy, observed, history, now),
        forecast=note,
        reactive=None if history.reactive is None else history.reactive.replicas,
        holdback=reservation_of(observed.urgency, observed.promises, observed.ready, wanted),
        proof=observed.proof,
    )
    return decision, history


def fixed(replicas: int, current: int, now: float) -> Decision:
    """Return the decision of a resource without autoscaling: the count the user wrote."""
    message = f"{replicas}, as spec.replicas says: autoscaling is not set."
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
    answers = [
        *metric_recommendations(policy, demand),
        *external_recommendations(policy, observed.external),
    ]
    needs = [answer for answer in answers if isinstance(answer, Recommendation)]
    missing = [answer for answer in answers if isinstance(answer, Unavailable)]
    lead = 0.0 if observed.lead is None else observed.lead.seconds
    backlog = backlog_recommendation(
        policy, demand, current, observed.ready, observed.seats_per_replica, lead
    )
    if backlog is not None:
        needs.append(backlog)
    if demand.missing:
        names = ", ".join(demand.missing)
        missing.append(Unavailable("GatewaySilent", f"Gateway {names} does not answer."))
    return needs, tuple(missing)


def _objectives(
    policy: ScalingPolicy, observed: ScalingInputs, history: ScalingState, now: float
) -> tuple[list[Recommendation], list[Unavailable], ScalingState]:
    """Return what the latency objectives ask for, which are not known, and what is remembered."""
    metrics = [metric for metric in policy.metrics if metric.type in LATENCY_TYPES]
    if not metrics or isinstance(observed.demand, Unavailable):
        return [], [], history
    lead = 0.0 if observed.lead is None else observed.lead.seconds
    service = ServiceModel(observed.demand, max(0, observed.current), observed.ready, lead)
    needs: list[Recommendation] = []
    unknown: list[Unavailable] = []
    memories: dict[str, LatencyMemory] = {}
    for metric in metrics:
        memory = history.latency.get(metric.label, LatencyMemory())
        answer, memories[metric.label] = latency_recommendation(
            metric, observed.latencies, service, memory, now
        )
        if isinstance(answer, Unavailable):
            unknown.append(answer)
        else:
            needs.append(answer)
    return needs, unknown, replace(history, latency=memories)


def _first_step(
    current: int,
    needs: Sequence[Recommendation],
    foreseen: Recommendation | None,
    missing: tuple[Unavailable, ...],
) -> DecisionStep:
    """Return where the count comes from: the highest need, real time before the forecast."""
    if not needs and missing:
        # The forecast alone may raise the count; without real time it may not lower it.
        if foreseen is not None and foreseen.replicas > current:
            return _step(current, foreseen)
        message = f"Held at {current}: demand is not known. {missing[0].message}"
        return DecisionStep("Demand", current, current, DecisionReason.METRICS_UNAVAILABLE, message)
    now = max(needs, key=lambda need: need.replicas, default=None)
    highest = now
    if foreseen is not None and (now is None or foreseen.replicas > now.replicas):
        highest = foreseen
    if highest is None:
        message = "Held: the policy counts no metric."
        return DecisionStep("Demand", current, current, DecisionReason.METRICS_UNAVAILABLE, message)
    if highest is foreseen and now is not None:
        highest = replace(highest, clause=f"{highest.clause}; now {now.clause}")
    return _step(current, highest)


def _decides(step: DecisionStep) -> bool:
    """Whether a rule moved the count, or has to be heard though the count stands: a broken budget."""
    return step.changed or step.reason is DecisionReason.OVER_BUDGET


def _step(current: int, need: Recommendation) -> DecisionStep:
    reason = need.reason
    if current == 0 and need.replicas > 0 and reason is not DecisionReason.FORECAST_DEMAND:
        reason = DecisionReason.SCALING_FROM_ZERO
    elif need.replicas == 0 and reason is DecisionReason.REAL_TIME_DEMAND:
        reason = DecisionReason.IDLE
    elif need.replicas == current and reason in (
        DecisionReason.REAL_TIME_DEMAND,
        DecisionReason.EXTERNAL_METRIC,
    ):
        reason = DecisionReason.WITHIN_TARGET
    return DecisionStep(
        "Demand", current, need.replicas, reason, f"{need.replicas}: {need.clause}."
    )


def _settled(
    policy: ScalingPolicy, observed: ScalingInputs, history: ScalingState, current: int, now: float
) -> ForecastBudget:
    if observed.forecast is None or history.reactive is None:
        return history.allowance
    # Beside other metrics it is not the forecast that runs more than a plain autoscaler would.
    if not all(metric.counted for metric in policy.metrics):
        return history.allowance
    plain = baseline(history.reactive.replicas, policy.target_utilization)
    return history.allowance.settled(current, plain, now)


def _anything_waits(demand: Demand | Unavailable) -> bool:
    if isinstance(demand, Unavailable):
        return False
    return any(
        math.isfinite(figure) and figure > 0
        for figure in (demand.queued, demand.held, demand.in_flight)
    )


def _imagine(
    policy: ScalingPolicy,
    demand: Demand | Unavailable,
    state: hpa_simulation.HpaState | None,
    current: int,
    now: float,
) -> hpa_simulation.HpaState | None:
    """Let the plain autoscaler look at the same demand, counted in replicas' worth."""
    worth: float | None = None
    if not isinstance(demand, Unavailable) and policy.metrics:
        use = policy.target_utilization
        counted = [metric for metric in policy.metrics if metric.counted]
        values = [(metric, metric_value(metric.type, demand)) for metric in counted]
        known = [v / capacity(m, use) for m, v in values if not isinstance(v, Unavailable)]
        worth = max(known) if known and len(known) == len(values) else None
    if state is None:
        if worth is None:
            return None
        state = hpa_simulation.HpaState(max(1, current))
    return hpa_simulation.simulate_sync(
        state, worth, 1.0, policy.min_replicas, policy.max_replicas, now
    )


__all__ = ["Decision", "ForecastNote", "Json", "ScalingInputs", "ScalingState", "decide", "fixed"]

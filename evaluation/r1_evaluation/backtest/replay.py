"""Closed-loop replay of a policy: the controller's own `decide`, step by step.

Every rule applies: the decision reads the load, the queue that its own counts leave, completed
requests, the forecast and the measured lead time. A count takes effect one start-up time later. The
queue is fluid. Requests that would wait longer than `QUEUE_TIMEOUT_SECONDS` are rejected, as by the
gateway's default.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from r1_evaluation.backtest.policy_under_test import PolicyUnderTest
from r1_evaluation.policies.forecast_replay import LEVELS, ReplayedForecast
from r1_evaluation.traces.scenario import STEP_SECONDS, Floats, Ints, Scenario
from r1_operator.api.scaling import MetricType
from r1_operator.plan.scaling.decide import decide
from r1_operator.plan.scaling.inputs import ScalingInputs
from r1_operator.plan.scaling.scaling_state import ScalingState
from r1_operator.plan.signals.demand import Demand
from r1_operator.plan.signals.forecast import ForecastGate, ReceivedForecast
from r1_operator.plan.signals.lead_time import LeadTime

QUEUE_TIMEOUT_SECONDS = 30.0
_MEASURED_STARTS = 20


@dataclass(frozen=True, slots=True, eq=False)
class ReplayResult:
    """One entry per decision step: desired and serving replicas, an HPA's replicas at the same
    target, and the wait behind the queue in seconds."""

    counts: Ints
    serving: Ints
    hpa: Ints
    queue_seconds: Floats


def replay_policy(
    scenario: Scenario,
    candidate: PolicyUnderTest,
    replayed_forecast: ReplayedForecast | None = None,
    on_progress: Callable[[float], None] = lambda share: None,
) -> ReplayResult:
    """Replay the candidate's policy; `on_progress` receives the completed share."""
    policy = candidate.policy
    demand, reading = (
        scenario.demand[scenario.decision_steps],
        scenario.reading[scenario.decision_steps],
    )
    steps, capacity = len(demand), scenario.capacity
    lead = LeadTime(scenario.start_seconds + STEP_SECONDS, _MEASURED_STARTS)
    first = min(max(round(float(reading[0]) / capacity + 0.5), policy.min_replicas, 1),
                policy.effective_max)  # fmt: skip
    counts, ready = np.zeros(steps, dtype=np.int64), np.zeros(steps, dtype=np.int64)
    hpa, waits = np.zeros(steps, dtype=np.int64), np.zeros(steps)
    history, current, queue, completed = ScalingState(), first, 0.0, 0.0
    history = replace(history.started(-1e6, current), highest_recommendations=())
    for step in range(steps):
        begun = max(0, step - scenario.start_steps)
        serving = int(min(counts[begun:step].min(initial=current), current))
        able = serving * capacity
        finished = min(able, float(demand[step]) + queue / STEP_SECONDS)
        queue = max(0.0, queue + (float(demand[step]) - finished) * STEP_SECONDS)
        queue = min(queue, QUEUE_TIMEOUT_SECONDS * max(able, float(demand[step])))
        completed += finished * STEP_SECONDS
        wait = 0.0 if queue == 0 else queue / able if able > 0 else QUEUE_TIMEOUT_SECONDS
        now = float(step * STEP_SECONDS)
        seen = _demand(candidate, float(reading[step]), serving, finished, queue, wait, completed,
                       capacity)  # fmt: skip
        forecast = (
            None
            if replayed_forecast is None
            else _forecast(replayed_forecast, step, lead, candidate, now)
        )
        observed = ScalingInputs(current, serving, seen, forecast, candidate.seats, lead_time=lead)
        decision, history = decide(policy, observed, history, now)
        current = decision.replicas
        # Replicas stop serving at once when the count falls.
        counts[step], ready[step], waits[step] = current, min(serving, current), wait
        hpa[step] = current if decision.hpa_replicas is None else decision.hpa_replicas
        if step % 1000 == 0:
            on_progress(step / steps)
    return ReplayResult(counts, ready, hpa, waits)


def _demand(
    candidate: PolicyUnderTest,
    reading: float,
    serving: int,
    finished: float,
    queue: float,
    wait: float,
    completed: float,
    capacity: float,
) -> Demand:
    tokens = candidate.metric.type is MetricType.TOKENS_PER_SECOND
    seats = float(serving * candidate.seats)
    # Queues count requests, which a history of tokens does not hold.
    queue, wait = (0.0, 0.0) if tokens else (queue, wait)
    # At full load every seat is in use; below it, by Little's law, the same share of them.
    busy = seats * finished / (serving * capacity) if serving else 0.0
    return Demand(
        requests_per_second=0.0 if tokens else reading,
        tokens_per_second=reading if tokens else 0.0,
        in_flight=busy,
        queued=queue,
        oldest_wait_seconds=wait,
        completed_per_replica=finished / serving if serving else 0.0,
        seats=seats,
        completed=None if tokens else completed,
    )


def _forecast(
    replayed_forecast: ReplayedForecast,
    step: int,
    lead: LeadTime,
    candidate: PolicyUnderTest,
    now: float,
) -> ReceivedForecast | None:
    peaks = replayed_forecast.peaks[step]
    if np.isnan(peaks).any():
        return None
    acts = bool(replayed_forecast.acts[step])
    gate = ForecastGate(acts, "BeatsBaselines" if acts else "LosesToBaselines", "By the replay.")
    quantiles = dict(zip(LEVELS, peaks.tolist(), strict=True))
    return ReceivedForecast(
        "replay", now, now + 60.0, lead.seconds, quantiles, (), gate, candidate.metric.type
    )

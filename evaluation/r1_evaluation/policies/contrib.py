"""Policies of other projects and variants that `r1 leaderboard` alone offers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from r1_evaluation.baselines import dynamo, dynamo_load
from r1_evaluation.baselines.contrib import aibrix, keda_triggers, phpa, phpa_holt_winters, wva
from r1_evaluation.policies import vectorized
from r1_evaluation.policies.inputs import PolicyInputs, demand_in_replicas
from r1_evaluation.policies.peers import dynamo_reactive
from r1_evaluation.traces.scenario import DAY_SECONDS, STEP_SECONDS, Ints
from r1_evaluation.traces.windows import coming_max

_DAY = round(DAY_SECONDS / STEP_SECONDS)
_HALF_HOUR = round(1800 / STEP_SECONDS)


def hpa_without_behavior(inputs: PolicyInputs, target: float) -> Ints:
    """HorizontalPodAutoscaler without `spec.behavior`, which has other default rate limits."""
    return vectorized.hpa_counts(
        demand_in_replicas(inputs, target),
        inputs.max_replicas,
        inputs.min_replicas,
        has_behavior=False,
    )


def seasonal_naive(inputs: PolicyInputs, target: float) -> Ints:
    """HPA on the larger of now and the highest of half an hour at the same time last week (last
    day where there is no week), half an hour early: the trigger that Mimir runs on."""
    reading = inputs.scenario.reading
    season = 7 * _DAY if inputs.scenario.begin >= 7 * _DAY else _DAY
    then = np.arange(inputs.scenario.begin, len(reading)) - season
    ahead = coming_max(reading, _HALF_HOUR)
    past = np.where(then >= 0, ahead[np.maximum(then, 0)], 0.0)
    load = np.maximum(inputs.reading, past) / (inputs.scenario.capacity * target)
    return vectorized.hpa_counts(load, inputs.max_replicas, inputs.min_replicas)


def crane_dsp(inputs: PolicyInputs, target: float) -> Ints:
    """HPA on the larger of now and Crane's forecast of the next hour's peak."""
    load = np.maximum(inputs.reading, inputs.crane) / (inputs.scenario.capacity * target)
    return vectorized.hpa_counts(load, inputs.max_replicas, inputs.min_replicas)


def phpa_linear(inputs: PolicyInputs, target: float) -> Ints:
    """The predictive HPA with a line through its own last counts."""
    return phpa.linear(demand_in_replicas(inputs, target), inputs.max_replicas, inputs.min_replicas)


def phpa_with_day_season(
    model: Callable[[], Callable[[int], int]], inputs: PolicyInputs, target: float
) -> Ints:
    """The predictive HPA with a season of one day, warmed up on the two days before."""
    scenario = inputs.scenario
    first = max(0, scenario.begin - phpa_holt_winters.STORED * phpa_holt_winters.SEASON)
    load = scenario.reading[first:] / (scenario.capacity * target)
    return phpa.simulate(load, inputs.max_replicas, inputs.min_replicas, model())[
        scenario.begin - first :
    ]


def wva_v1(inputs: PolicyInputs, target: float) -> Ints:
    """llm-d's WVA, saturation analyzer V1."""
    load = inputs.newest / inputs.scenario.capacity
    return np.maximum(
        wva.v1(load, target, inputs.max_replicas, inputs.scenario.start_steps), inputs.min_replicas
    )


def wva_v2(inputs: PolicyInputs, target: float) -> Ints:
    """llm-d's WVA, saturation analyzer V2."""
    load = inputs.newest / inputs.scenario.capacity
    return np.maximum(
        wva.v2(load, target, inputs.max_replicas, inputs.scenario.start_steps), inputs.min_replicas
    )


def keda_queue(inputs: PolicyInputs, target: float) -> Ints:
    """KEDA with llm-d's triggers on running and queued requests."""
    demand, capacity = (
        inputs.scenario.demand[inputs.scenario.decision_steps],
        inputs.scenario.capacity,
    )
    return keda_triggers.simulate(
        demand,
        capacity,
        target,
        inputs.max_replicas,
        inputs.scenario.start_steps,
        inputs.min_replicas,
    )


def aibrix_apa(inputs: PolicyInputs, target: float, *, upstream: bool = False) -> Ints:
    """AIBrix' APA, by its documentation, or by its code when `upstream`."""
    replica_counts = aibrix.apa(
        demand_in_replicas(inputs, target), inputs.max_replicas, upstream=upstream
    )
    return np.maximum(replica_counts, inputs.min_replicas)


def aibrix_kpa(inputs: PolicyInputs, target: float, *, upstream: bool = False) -> Ints:
    """AIBrix' KPA, by its documentation, or by its code when `upstream`."""
    replica_counts = aibrix.kpa(
        demand_in_replicas(inputs, target), inputs.max_replicas, upstream=upstream
    )
    return np.maximum(replica_counts, inputs.min_replicas)


def dynamo_throughput(predictor: str, inputs: PolicyInputs, target: float) -> Ints:
    """Dynamo's throughput planner with one of its predictors, on the capacity at the target."""
    rps = inputs.scenario.capacity * target
    replica_counts = dynamo.throughput(
        inputs.scenario, inputs.dynamo(predictor), rps, inputs.max_replicas
    )
    return np.maximum(replica_counts, inputs.min_replicas)


def dynamo_hybrid(predictor: str, inputs: PolicyInputs, target: float) -> Ints:
    """Dynamo's load planner by latencies over the floor of its throughput planner."""
    floors = dynamo_throughput(predictor, inputs, target)
    return dynamo_reactive(dynamo_load.latency_step, dynamo_load.filled, inputs, target, floors)

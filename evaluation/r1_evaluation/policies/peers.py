"""Policies of other projects that a user of `R1Backtest` can name, by their default rules."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from r1_evaluation.baselines import dynamo_load, knative_kubeai, ray_serve
from r1_evaluation.policies import vectorized
from r1_evaluation.policies.inputs import PolicyInputs, demand_in_replicas
from r1_evaluation.traces.scenario import Ints


def hpa(inputs: PolicyInputs, target: float) -> Ints:
    """HorizontalPodAutoscaler, autoscaling/v2, on the demand metric with default behaviour."""
    return vectorized.hpa_counts(
        demand_in_replicas(inputs, target), inputs.max_replicas, inputs.min_replicas
    )


def knative(inputs: PolicyInputs, target: float) -> Ints:
    """Knative's KPA: observed demand is the stable window, the newest finished step the panic window."""
    panic = inputs.newest / (inputs.scenario.capacity * target)
    return np.maximum(
        knative_kubeai.knative(
            demand_in_replicas(inputs, target),
            panic,
            inputs.max_replicas,
            inputs.scenario.start_steps,
        ),
        inputs.min_replicas,
    )


def kubeai(inputs: PolicyInputs, target: float) -> Ints:
    """KubeAI's mean of ten minutes."""
    return np.maximum(
        knative_kubeai.kubeai(demand_in_replicas(inputs, target), inputs.max_replicas),
        inputs.min_replicas,
    )


def dynamo_reactive(
    step: dynamo_load.Step,
    usage: Callable[[float], float],
    inputs: PolicyInputs,
    target: float,
    floors: Ints | None = None,
) -> Ints:
    """Dynamo's load planner, by thresholds (its default) or by latencies."""
    load = inputs.newest / (inputs.scenario.capacity * target)
    start = inputs.scenario.start_steps
    replica_counts = dynamo_load.simulate(load, inputs.max_replicas, start, step, usage, floors)
    return np.maximum(replica_counts, inputs.min_replicas)


def ray(inputs: PolicyInputs, target: float) -> Ints:
    """Ray Serve's default policy on ongoing requests."""
    load = inputs.newest / (inputs.scenario.capacity * target)
    return np.maximum(
        ray_serve.simulate(load, inputs.max_replicas, inputs.scenario.start_steps),
        inputs.min_replicas,
    )


def keda(inputs: PolicyInputs, target: float) -> Ints:
    """HPA on a metric that is polled every 30 s, KEDA's default."""
    step = np.arange(len(inputs.reading))
    polled = inputs.reading[step - step % 2] / (inputs.scenario.capacity * target)
    return vectorized.hpa_counts(polled, inputs.max_replicas, inputs.min_replicas)


def static(inputs: PolicyInputs, target: float) -> Ints:
    """A constant count: replicas for the highest demand of all steps at the target."""
    highest = inputs.replicas(
        inputs.scenario.demand[inputs.scenario.decision_steps].max(keepdims=True), target
    )
    count = min(max(int(highest[0]), inputs.min_replicas), inputs.max_replicas)
    return np.full(len(inputs.reading), count, dtype=np.int64)

"""The operator's own scaling rules as policies: with, without and with a wrong forecast."""

from __future__ import annotations

import math

import numpy as np

from r1_evaluation.policies import vectorized
from r1_evaluation.policies.forecast_replay import perfect_forecast
from r1_evaluation.policies.inputs import PolicyInputs, demand_in_replicas
from r1_evaluation.traces.scenario import STEP_SECONDS, Floats, Ints
from r1_evaluation.traces.windows import running_max
from r1_operator.plan.scaling.policy import DownBehavior
from r1_operator.plan.scaling.predictive import OVERFORECAST_LEADS, recent_peak_span

DOWN = DownBehavior()


def ours(inputs: PolicyInputs, target: float) -> Ints:
    """The production policy with its forecast, where the forecast gate is open."""
    forecast = inputs.replayed_forecast
    level = inputs.policy(target).peak_quantile(inputs.lead_seconds)
    peak = np.where(forecast.acts, forecast.at(level), 0.0)
    return _predictive(inputs, target, peak)


def ours_with_wrong_forecast(inputs: PolicyInputs, target: float, factor: float) -> Ints:
    """The production policy with every forecast wrong by `factor` and the gate always open."""
    forecast = inputs.replayed_forecast
    peak = forecast.at(inputs.policy(target).peak_quantile(inputs.lead_seconds))
    return _predictive(inputs, target, np.where(np.isnan(peak), 0.0, factor * peak))


def ours_no_forecast(inputs: PolicyInputs, target: float) -> Ints:
    """The production policy on observed demand alone."""
    needed, hold_floor = _reactive(inputs, target)
    window = DOWN.stabilization_window_seconds
    return vectorized.stabilized_counts(
        needed, hold_floor, inputs.max_replicas, window, inputs.min_replicas
    )


def oracle(inputs: PolicyInputs, target: float) -> Ints:
    """Replicas for the true maximum over the start-up time, and nothing else."""
    needed = inputs.replicas(
        perfect_forecast(inputs.scenario), inputs.policy(target).peak_utilization
    )
    return vectorized.stabilized_counts(
        needed, needed, inputs.max_replicas, 0.0, inputs.min_replicas
    )


def last_value(inputs: PolicyInputs, target: float) -> Ints:
    """The production policy with a forecast that repeats the present, its gate always open."""
    return _predictive(inputs, target, inputs.reading)


def threshold(inputs: PolicyInputs, target: float) -> Ints:
    """The down policy `Threshold`: down only when the need is below 0.6 of the count."""
    needed = inputs.replicas(inputs.reading, target)
    return vectorized.threshold_counts(
        needed, inputs.max_replicas, DOWN.threshold_percent, inputs.min_replicas
    )


def _reactive(inputs: PolicyInputs, target: float) -> tuple[Ints, Ints]:
    """Return (replicas for the observed demand, highest count within its tolerance)."""
    needed = inputs.replicas(inputs.reading, target)
    within = vectorized.highest_within_tolerance(demand_in_replicas(inputs, target))
    return needed, np.maximum(needed, within)


def _recent_peak_floor(inputs: PolicyInputs, target: float) -> Ints:
    """Return the most replicas that demand filled within the span in which it may return."""
    filled = np.minimum(inputs.replicas(inputs.reading, max(1.0, target)), inputs.max_replicas)
    span = recent_peak_span(inputs.policy(target), inputs.lead_seconds)
    steps = math.ceil(span / STEP_SECONDS)
    return np.asarray(running_max(filled, steps) if steps else filled, dtype=np.int64)


def _predictive(inputs: PolicyInputs, target: float, peak: Floats) -> Ints:
    """Return the production rules' counts for a forecast peak in requests/s (0: no forecast).

    The higher need applies. An accepted peak that is not below the observed demand confirms a
    scale-down.
    """
    needed, hold_floor = _reactive(inputs, target)
    forecast = inputs.replicas(peak, inputs.policy(target).peak_utilization)
    accepted = vectorized.accepted_forecast(
        forecast, needed, OVERFORECAST_LEADS * inputs.lead_seconds
    )
    confirms = accepted & (peak >= inputs.reading)
    forecast = np.where(accepted, forecast, 0)
    first = max(int(needed[0]), int(forecast[0]))
    hpa = vectorized.hpa_counts(
        demand_in_replicas(inputs, target), inputs.max_replicas, inputs.min_replicas, first
    )
    return vectorized.predictive_counts(
        needed,
        hold_floor,
        forecast,
        confirms,
        _recent_peak_floor(inputs, target),
        hpa,
        target,
        inputs.max_replicas,
        DOWN.stabilization_window_seconds,
        inputs.min_replicas,
    )

"""NVIDIA Dynamo's throughput planner on a rate-level trace, and two of its predictors.

Formulas and defaults: `dynamo.planner` of ai-dynamo 1.3.1 (`core/throughput_scaling.py`,
`core/load/predictors.py`, `config/defaults.py`). A test runs these beside the package, step by
step. Every 180 s (target `sla`), replicas = requests predicted for the next 180 s over what one
replica takes. Its performance model learns that from its engines; here it is the board's capacity
at the target. `dynamo_load` has its other loop.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from r1_evaluation.traces.scenario import STEP_SECONDS, Floats, Ints, Scenario

INTERVAL_SECONDS = 180
INTERVAL_STEPS = INTERVAL_SECONDS // STEP_SECONDS
WARM_INTERVALS = 200
"""Warm-up intervals of a predictor, as in `r1 forecast-bench`."""
_Q_LEVEL, _Q_TREND, _R, _P = 1.0, 0.1, 10.0, 1000.0


def requests_per_interval(scenario: Scenario) -> tuple[Floats, int]:
    """Return the requests of each interval for a predictor, and the number of warm-up intervals.

    Intervals are counted from the trace's first step; the warm-up ends where policies start.
    """
    whole = len(scenario.demand) // INTERVAL_STEPS
    sums = scenario.demand[: whole * INTERVAL_STEPS].reshape(whole, INTERVAL_STEPS).sum(axis=1)
    begin = scenario.begin // INTERVAL_STEPS
    first = max(0, begin - WARM_INTERVALS)
    return sums[first:] * STEP_SECONDS, begin - first


def constant(values: Sequence[float], first: int) -> Floats:
    """Return the constant predictor's values for `values[first:]` and for the one after."""
    shifted = [0.0, *values]
    return np.array(shifted[first:])


def kalman(values: Sequence[float], first: int) -> Floats:
    """Return the Kalman predictor's values for `values[first:]` and for the one after.

    A local linear trend: the level moves by the trend, and both have noise. Zeros before the
    first request are skipped.
    """
    level = trend = 0.0
    p, q, r = _P, 0.0, _P  # covariance: level, both, trend
    began = False
    predictions = [0.0]
    for value in values:
        if began:
            inverse = 1 / (p + _R)
            surprise = value - level
            gain, pull = p * inverse, q * inverse
            level, trend = level + gain * surprise, trend + pull * surprise
            p, q, r = (1 - gain) * p, (1 - gain) * q, r - pull * q
        elif value != 0:
            began, level = True, value
        if began:
            level += trend
            p, q, r = p + 2 * q + r + _Q_LEVEL, q + r, r + _Q_TREND
        predictions.append(level)
    return np.array(predictions[first:])


def throughput_step(requests: float, interval_seconds: float, engine_rps: float) -> int:
    """Return the throughput planner's replicas for a predicted number of requests."""
    return max(math.ceil(requests / interval_seconds / engine_rps), 1)


def throughput(scenario: Scenario, predicted: Floats, engine_rps: float, max_replicas: int) -> Ints:
    """Return the counts of the throughput planner at the decision steps.

    `predicted` are the requests of each interval from the one in which policies start. A decision
    falls one step into its interval, because observations are 15 s old.
    """
    wanted = [throughput_step(value, INTERVAL_SECONDS, engine_rps) for value in predicted.tolist()]
    counts = np.clip(np.array(wanted, dtype=np.int64), 1, max_replicas)
    step = np.arange(scenario.begin, len(scenario.demand))
    number = (
        np.maximum(step - 1, scenario.begin) // INTERVAL_STEPS - scenario.begin // INTERVAL_STEPS
    )
    replica_counts: Ints = counts[np.minimum(number, len(counts) - 1)]
    return replica_counts

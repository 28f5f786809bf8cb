"""The production rules over arrays: replica counts of all steps in one pass.

`decide` computes a message and every figure of each decision, which is too slow for 17 targets over
100,000 steps. Here the same rules run on numbers alone. Needs are computed for all steps at once; only
the limiters that depend on the previous step run in a loop. A property test compares both at every
step.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from r1_evaluation.traces.scenario import STEP_SECONDS, Bools, Floats, Ints
from r1_evaluation.traces.windows import running_max
from r1_operator.plan.scaling.forecast_rules.forecast_budget import ForecastBudget, baseline
from r1_operator.plan.scaling.hpa_simulation import DOWN_WINDOW_SECONDS, TOLERANCE
from r1_operator.plan.scaling.limiters import STEADY_SECONDS
from r1_operator.plan.scaling.predictive import OVERFORECAST_FACTOR
from r1_operator.plan.scaling.real_time import recommendations

_STEADY_STEPS = math.ceil(STEADY_SECONDS / STEP_SECONDS)


def round_up_replicas(needed: Floats) -> Ints:
    """Return a need in replicas rounded up, with a tolerance of 1e-9."""
    return np.ceil(np.minimum(needed, 1e9) - 1e-9).astype(np.int64)


def highest_within_tolerance(demand_in_replicas: Floats) -> Ints:
    """Return the highest counts at which demand (in replicas) is within the tolerance."""
    return np.floor(
        np.minimum(demand_in_replicas, 1e9) / (1 - recommendations.TOLERANCE) + 1e-9
    ).astype(np.int64)


def accepted_forecast(forecast: Ints, needed: Ints, tolerated_seconds: float) -> Bools:
    """Return the steps at which the production rules accept a forecast count (0: no forecast).

    A forecast above `OVERFORECAST_FACTOR` times the need is rejected once that lasts for longer than
    `tolerated_seconds` without a break.
    """
    excessive = forecast > OVERFORECAST_FACTOR * np.maximum(needed, 1)
    step = np.arange(len(needed))
    before = np.maximum.accumulate(np.where(excessive, -1, step))
    since = (step - before - 1) * STEP_SECONDS
    return (forecast > 0) & ~(excessive & (since > tolerated_seconds))


def stabilized_counts(
    needed: Ints,
    hold_floor: Ints,
    max_replicas: int,
    window: float,
    min_replicas: int = 1,
) -> Ints:
    """Return the counts of the production limiters with default behavior.

    `needed` raises the count; a scale-down stays at or above `hold_floor`. `window` is the
    scale-down window (seconds). One step is one rate period, in which the count may double or rise
    by four.
    """
    desired_counts = np.maximum(needed, min_replicas)
    steps = max(1, math.ceil(window / STEP_SECONDS))
    floor = np.asarray(running_max(hold_floor, steps), dtype=np.int64)
    current = min(max(int(desired_counts[0]), min_replicas), max_replicas)
    replica_counts = []
    for want, high in zip(desired_counts.tolist(), floor.tolist(), strict=True):
        if want < current:
            want = min(current, max(want, high))
        current = min(want, max_replicas, _reach(current))
        replica_counts.append(current)
    return np.array(replica_counts, dtype=np.int64)


def predictive_counts(
    needed: Ints,
    hold_floor: Ints,
    forecast: Ints,
    confirms_scale_down: Bools,
    recent_peak_floor: Ints,
    hpa: Ints,
    target: float,
    max_replicas: int,
    window: float,
    min_replicas: int = 1,
) -> Ints:
    """Return the counts with a forecast of `forecast` replicas (0: none) within its budget.

    `window` is the scale-down window (seconds). While the forecast confirms a scale-down,
    `recent_peak_floor` and `hpa` are the floors in place of the window. `hpa` holds the counts of an
    HPA at the same `target`, from which the forecast budget is computed.
    """
    steps = max(1, math.ceil(window / STEP_SECONDS))
    current = min(max(int(needed[0]), int(forecast[0]), min_replicas), max_replicas)
    budget, risen = ForecastBudget(), -steps
    highest: deque[tuple[int, int]] = deque()
    replica_counts = []
    series = (needed, hold_floor, forecast, confirms_scale_down, recent_peak_floor)
    hpa_list = hpa.tolist()
    rows = zip(*(values.tolist() for values in series), hpa_list, strict=True)
    paid = [baseline(count, target) for count in hpa_list]
    for step, (need, hold, peak, confirms, recent_peak, hpa_count) in enumerate(rows):
        if step:
            budget = budget.charged(current, paid[step - 1], step * float(STEP_SECONDS))
        granted = 0 if budget.exhausted else peak
        want, hold = max(need, granted, min_replicas), max(hold, granted)
        while highest and highest[-1][1] <= hold:
            highest.pop()
        highest.append((step, hold))
        while highest[0][0] <= step - steps:
            highest.popleft()
        if want < current:
            high = highest[0][1]
            if confirms and granted > 0:
                steady = current if step - risen < min(steps, _STEADY_STEPS) else 0
                high = max(min(high, hpa_count), recent_peak if want > 0 else 0, steady)
            want = min(current, max(want, high))
        before, current = current, min(want, max_replicas, _reach(current))
        risen = step if current > before else risen
        replica_counts.append(current)
    return np.array(replica_counts, dtype=np.int64)


def threshold_counts(
    needed: Ints, max_replicas: int, percent: float, min_replicas: int = 1
) -> Ints:
    """Return the counts under the down policy `Threshold`: down only below `percent` of the count."""
    current = min(max(int(needed[0]), min_replicas), max_replicas)
    replica_counts = []
    for want in np.maximum(needed, min_replicas).tolist():
        if want < current and not want < current * percent / 100:
            want = current
        current = min(want, max_replicas, _reach(current))
        replica_counts.append(current)
    return np.array(replica_counts, dtype=np.int64)


def hpa_counts(
    demand_in_replicas: Floats,
    max_replicas: int,
    min_replicas: int = 1,
    first: int | None = None,
    *,
    has_behavior: bool = True,
) -> Ints:
    """Return the counts of a HorizontalPodAutoscaler with a sync at every step.

    `demand_in_replicas` is demand in replicas at the target, `first` the initial count and
    `has_behavior` whether the HPA has `spec.behavior`. `hpa_simulation.simulate_sync` of the operator
    computes the same step by step.
    """
    steps = round(DOWN_WINDOW_SECONDS / STEP_SECONDS)
    initial = math.ceil(demand_in_replicas[0] - 1e-9) if first is None else first
    current = min(max(initial, min_replicas), max_replicas)
    falling: deque[tuple[int, int]] = deque([(0, current)])
    replica_counts = []
    for step, value in enumerate(demand_in_replicas.tolist()):
        near = 1 - TOLERANCE <= value / current <= 1 + TOLERANCE
        desired = current if near else math.ceil(value - 1e-9)
        while falling and falling[-1][1] <= desired:
            falling.pop()
        falling.append((step, desired))
        while falling[0][0] <= step - steps:
            falling.popleft()
        if has_behavior:
            stable = min(current, falling[0][1]) if desired < current else desired
            reach = _reach(current)
        else:
            stable, reach = falling[0][1], max(2 * current, 4)
        current = min(max(min(stable, reach), min_replicas), max_replicas)
        replica_counts.append(current)
    return np.array(replica_counts, dtype=np.int64)


def _reach(current: int) -> int:
    return max(2 * current, current + 4)

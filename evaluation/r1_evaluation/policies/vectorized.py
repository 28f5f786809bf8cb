"""Whole courses of counts in one pass: the production rules over arrays.

`decide` writes a sentence and every figure for each decision, which a person needs and a curve
of seventeen targets over a hundred thousand steps does not. Here the same rules run on the
numbers alone: what is needed is worked out for all steps at once, and what is left is the part
of the chain of limiters in which a step depends on the one before it. A property test plays both
side by side and demands the same count at every step.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from r1_evaluation.traces.scenario import STEP_SECONDS, Bools, Floats, Ints
from r1_evaluation.traces.windows import running_max
from r1_operator.plan.scaling import recommendations
from r1_operator.plan.scaling.forecast_budget import ForecastBudget, baseline
from r1_operator.plan.scaling.hpa_simulation import DOWN_WINDOW_SECONDS, TOLERANCE
from r1_operator.plan.scaling.limiters import STEADY_SECONDS
from r1_operator.plan.scaling.predictive import PROMISE_FACTOR

_STEADY_STEPS = math.ceil(STEADY_SECONDS / STEP_SECONDS)


def round_up_replicas(needed: Floats) -> Ints:
    """Return replicas for a need in replicas' worth: rounded up, a hair above is that number."""
    return np.ceil(np.minimum(needed, 1e9) - 1e-9).astype(np.int64)


def highest_within_tolerance(demand_in_replicas: Floats) -> Ints:
    """Return the highest counts that demand (replicas' worth) lies within the tolerance of."""
    return np.floor(
        np.minimum(demand_in_replicas, 1e9) / (1 - recommendations.TOLERANCE) + 1e-9
    ).astype(np.int64)


def accepted_forecast(predictive_counts: Ints, needed: Ints, patience_seconds: float) -> Bools:
    """Return where the production rules believe a forecast's count (0: it says nothing).

    It is not believed once it has asked for more than `PROMISE_FACTOR` times what demand needs
    for longer than the patience without a break.
    """
    promising = predictive_counts > PROMISE_FACTOR * np.maximum(needed, 1)
    step = np.arange(len(needed))
    before = np.maximum.accumulate(np.where(promising, -1, step))
    since = (step - before - 1) * STEP_SECONDS
    return (predictive_counts > 0) & ~(promising & (since > patience_seconds))


def stabilized_counts(
    needed: Ints,
    kept: Ints,
    max_replicas: int,
    window: float,
    min_replicas: int = 1,
) -> Ints:
    """Return the course of the production chain with its default behaviour.

    `needed` raises the count, `kept` (no lower) is what a step is no reason to go below.
    `window` is the down window (seconds). One step is one rate period, in which the count may
    double or rise by four.
    """
    wanted = np.maximum(needed, min_replicas)
    steps = max(1, math.ceil(window / STEP_SECONDS))
    floor = np.asarray(running_max(kept, steps), dtype=np.int64)
    current = min(max(int(wanted[0]), min_replicas), max_replicas)
    replica_counts = []
    for want, high in zip(wanted.tolist(), floor.tolist(), strict=True):
        if want < current:
            want = min(current, max(want, high))
        current = min(want, max_replicas, _reach(current))
        replica_counts.append(current)
    return np.array(replica_counts, dtype=np.int64)


def predictive_counts(
    needed: Ints,
    kept: Ints,
    asked: Ints,
    vouched: Bools,
    came: Ints,
    reactive: Ints,
    target: float,
    max_replicas: int,
    window: float,
    min_replicas: int = 1,
) -> Ints:
    """Return the course with a forecast that asks for `asked` (0: nothing) while it may spend.

    `window` is the down window (seconds). While the forecast vouches, `came` and `reactive` are
    what is held in its place: the latter is the course of the plain autoscaler at the same
    `target`, by which the forecast's allowance is reckoned too.
    """
    steps = max(1, math.ceil(window / STEP_SECONDS))
    current = min(max(int(needed[0]), int(asked[0]), min_replicas), max_replicas)
    allowance, risen = ForecastBudget(), -steps
    highest: deque[tuple[int, int]] = deque()
    replica_counts = []
    series = (needed, kept, asked, vouched, came)
    plain = reactive.tolist()
    rows = zip(*(values.tolist() for values in series), plain, strict=True)
    paid = [baseline(count, target) for count in plain]
    for step, (need, keep, peak, vouches, held, beside) in enumerate(rows):
        if step:
            allowance = allowance.settled(current, paid[step - 1], step * float(STEP_SECONDS))
        heard = 0 if allowance.spent else peak
        want, keep = max(need, heard, min_replicas), max(keep, heard)
        while highest and highest[-1][1] <= keep:
            highest.pop()
        highest.append((step, keep))
        while highest[0][0] <= step - steps:
            highest.popleft()
        if want < current:
            high = highest[0][1]
            if vouches and heard > 0:
                steady = current if step - risen < min(steps, _STEADY_STEPS) else 0
                high = max(min(high, beside), held if want > 0 else 0, steady)
            want = min(current, max(want, high))
        before, current = current, min(want, max_replicas, _reach(current))
        risen = step if current > before else risen
        replica_counts.append(current)
    return np.array(replica_counts, dtype=np.int64)


def threshold_counts(
    needed: Ints, max_replicas: int, percent: float, min_replicas: int = 1
) -> Ints:
    """Return the course under the down policy `Threshold`: down only below a share."""
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
    """Return the course of a HorizontalPodAutoscaler with a look at every step.

    `demand_in_replicas` is demand in replicas' worth at the target, `first` the count that it finds; `has_behavior`
    whether it has `spec.behavior`. The stepwise twin is `r1_operator.plan.scaling.hpa_simulation.step`.
    """
    steps = round(DOWN_WINDOW_SECONDS / STEP_SECONDS)
    found = math.ceil(demand_in_replicas[0] - 1e-9) if first is None else first
    current = min(max(found, min_replicas), max_replicas)
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

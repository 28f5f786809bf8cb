"""jthomperoo's predictive HorizontalPodAutoscaler, and its linear model.

`algorithms/linear_regression`, `internal/prediction/linear` and `internal/controllers/controller.go`
at c91d0609: an HPA works out its replicas every 15 s, a model of the last of these figures says one
as well, and the larger counts; then come the HPA's windows and limits, with periods of 60 s by
default. It follows replicas and not load, so it foresees what it does itself.

The linear model draws a line a little ahead. It is that of its example: six figures kept, 10 s
ahead. (Its script, run, says one more than seven equal figures, by a rounding in the fit: that is
not repeated here.) `phpa_seasons` has the other model.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np

from r1_evaluation.traces.scenario import STEP_SECONDS, Floats, Ints
from r1_operator.api.scaling import PolicyType
from r1_operator.plan.scaling.hpa_simulation import TOLERANCE
from r1_operator.plan.scaling.limits.rate_limits import ReplicaChange, highest_allowed
from r1_operator.plan.scaling.policy import RateLimit

HISTORY, AHEAD_SECONDS = 6, 10.0
UP_LIMITS = (RateLimit(PolicyType.PERCENT, 100, 60), RateLimit(PolicyType.PODS, 4, 60))
_DOWN = round(300 / STEP_SECONDS)


def line_weights(times: Sequence[float], at: float) -> list[float]:
    """Return the weight of each value at `times` (s) in the least-squares line at `at`."""
    mean = math.fsum(times) / len(times)
    spread = math.fsum((time - mean) ** 2 for time in times)
    share = 1 / len(times)
    if spread == 0:
        return [share] * len(times)
    return [share + (time - mean) * (at - mean) / spread for time in times]


def line_value(replicas: Sequence[float], weights: Sequence[float]) -> int:
    """Return the line's count, rounded up."""
    return math.ceil(math.fsum(map(float.__mul__, map(float, replicas), weights)) - 1e-9)


def linear(demand_in_replicas: Floats, max_replicas: int, min_replicas: int = 1) -> Ints:
    """Return the counts for demand in replicas at the target, with a sync at every step."""
    weights = {
        n: line_weights(
            [float(k * STEP_SECONDS) for k in range(n)], (n - 1) * STEP_SECONDS + AHEAD_SECONDS
        )
        for n in range(1, HISTORY + 2)
    }
    history: deque[int] = deque(maxlen=HISTORY + 1)  # it forgets the seventh after it was used

    def ahead(calculated: int) -> int:
        history.append(calculated)
        return line_value(history, weights[len(history)])

    return simulate(demand_in_replicas, max_replicas, min_replicas, ahead)


def simulate(
    demand_in_replicas: Floats, max_replicas: int, min_replicas: int, ahead: Callable[[int], int]
) -> Ints:
    """Return the counts, with a sync at every step.

    `ahead` receives the HPA's replicas of each sync and returns the model's, 0 without a
    prediction.
    """
    current = min(max(math.ceil(demand_in_replicas[0] - 1e-9), min_replicas), max_replicas)
    falling: deque[tuple[int, int]] = deque()
    changes: tuple[ReplicaChange, ...] = ()
    counts = []
    for step, value in enumerate(demand_in_replicas.tolist()):
        now = float(step * STEP_SECONDS)
        near = 1 - TOLERANCE <= value / current <= 1 + TOLERANCE
        calculated = current if near else math.ceil(value - 1e-9)
        wanted = max(calculated, ahead(calculated))
        while falling and falling[-1][1] <= wanted:
            falling.pop()
        falling.append((step, wanted))
        while falling[0][0] <= step - _DOWN:
            falling.popleft()
        stable = min(current, falling[0][1]) if wanted < current else wanted
        if stable > current:
            changes = tuple(change for change in changes if now - change.at < 60)
            stable = min(stable, highest_allowed(current, changes, UP_LIMITS, now) or stable)
        count = min(max(stable, min_replicas), max_replicas)
        if count != current:
            changes = (*changes, ReplicaChange(now, count - current))
        current = count
        counts.append(current)
    return np.array(counts, dtype=np.int64)

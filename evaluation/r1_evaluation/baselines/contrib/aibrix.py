"""AIBrix autoscalers APA and KPA, by documentation and by upstream code.

Sources: `pkg/controller/podautoscaler/algorithm/{apa,kpa}.go`, `context/context.go` and the
controller at e3e10f9e. APA multiplies the count by the mean metric per pod over its target. KPA
divides a metric by the target over a stable window of 180 s and a panic window of 60 s. The code
differs from the documentation in three points, so each policy exists twice (`upstream`):

- the stored metric is the mean over pods; KPA divides it as a total and compares it with the tolerance as a mean. So it stands still while pods are within a tenth of the target, and halves the count above that;
- the highest count of a panic is not kept, so KPA scales down in a panic;
- scale-down uses the lowest recommendation of the 300 s cool-down instead of the highest.
"""

from __future__ import annotations

import math

import numpy as np

from r1_evaluation.traces.scenario import STEP_SECONDS, Floats, Ints
from r1_evaluation.traces.windows import trailing_mean

_STABLE = round(180 / STEP_SECONDS)
_COOL_DOWN = round(300 / STEP_SECONDS)
_PANIC_RATIO = 2.0


def apa_step(count: int, ratio: float) -> int:
    """Return APA's count for a metric per pod at `ratio` of its target (tolerance 10 %)."""
    if ratio > 1.1:
        return min(math.ceil(count * ratio), math.ceil(2 * count))
    if ratio < 0.9:
        return max(math.ceil(count * ratio), count // 2)
    return count


def kpa_step(
    count: int,
    stable: float,
    panic: float,
    panicking: bool,
    highest: int,
    *,
    upstream: bool = False,
) -> tuple[int, int]:
    """Return (count, highest count of the panic) of KPA.

    `stable` and `panic` are the means of the metric over the two windows, over the target: totals
    by documentation, means over pods upstream. A step at most doubles or halves the count, and in
    a panic never goes below `highest`.
    """

    def desired(value: float) -> int:
        ratio = value if upstream else value / max(1, count)
        wanted = count if 0.9 <= ratio <= 1.1 else math.ceil(value)
        return min(max(wanted, count // 2), max(1, math.ceil(2 * count)))

    if not panicking:
        return desired(stable), 0
    highest = max(highest, desired(stable), desired(panic))
    return highest, highest


def cooled_down(recommendation: int, count: int, earlier: list[int], upstream: bool) -> int:
    """Return the count after the cool-down of 300 s over the `earlier` recommendations (newest last).

    Scale-down stops at the highest recommendation of the window; upstream at the lowest.
    """
    if recommendation >= count:
        return recommendation
    window = [*earlier[-_COOL_DOWN + 1 :], recommendation]
    return min(window) if upstream else min(count, max(window))


def apa(demand_in_replicas: Floats, max_replicas: int, *, upstream: bool = False) -> Ints:
    """Return the counts of APA on the mean of the last 180 s, a decision at every step."""
    count = min(max(math.ceil(demand_in_replicas[0]), 1), max_replicas)
    recommendations: list[int] = []
    replica_counts = []
    for value in trailing_mean(demand_in_replicas, _STABLE).tolist():
        recommendation = min(max(apa_step(count, value / count), 1), max_replicas)
        count = cooled_down(recommendation, count, recommendations[-_COOL_DOWN:], upstream)
        recommendations.append(recommendation)
        replica_counts.append(count)
    return np.array(replica_counts, dtype=np.int64)


def kpa(demand_in_replicas: Floats, max_replicas: int, *, upstream: bool = False) -> Ints:
    """Return the counts of KPA; a panic lasts while the panic window is above twice the stable one."""
    count, highest = min(max(math.ceil(demand_in_replicas[0]), 1), max_replicas), 0
    recommendations: list[int] = []
    replica_counts = []
    stable = trailing_mean(demand_in_replicas, _STABLE)
    for long, short in zip(stable.tolist(), demand_in_replicas.tolist(), strict=True):
        panicking = long <= 0 or short / long > _PANIC_RATIO
        pods = count if upstream else 1
        kept = 0 if upstream else highest
        recommendation, highest = kpa_step(
            count, long / pods, short / pods, panicking, kept, upstream=upstream
        )
        recommendation = min(max(recommendation, 1), max_replicas)
        count = cooled_down(recommendation, count, recommendations[-_COOL_DOWN:], upstream)
        recommendations.append(recommendation)
        replica_counts.append(count)
    return np.array(replica_counts, dtype=np.int64)

"""What others run: their published rules with their defaults, one function each.

Formulas and defaults: Knative `pkg/autoscaler/scaling/autoscaler.go` and its ConfigMap (98e5ef90),
AIBrix `pkg/controller/podautoscaler/algorithm/{apa,kpa}.go` (e3e10f9e), KubeAI
`internal/modelautoscaler/autoscaler.go` (f442a2cd). The single steps are tested on figures of
their own unit tables. Demand is given in replicas' worth at the target; each runs at the step of
the simulation, not at its own 2 or 10 s.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from r1_board.world import STEP_SECONDS, Floats, Ints

_PANIC_RATIO = 2.0
_STABLE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Panic:
    """Knative's panic: when its threshold was last crossed (None: calm), its highest count."""

    at: float | None = None
    highest: int = 0


def knative_begin(ready: int, now: float) -> Panic:
    """Return how a KPA starts: in panic when it finds more than one pod."""
    return Panic(now, ready) if ready > 1 else Panic()


def knative_step(
    state: Panic, ready: int, stable: float, panic: float, now: float
) -> tuple[int, Panic]:
    """Return the count after a tick at `now` (s), and the panic after it.

    `stable` and `panic` are means over the 60 s and 6 s windows in replicas' worth. Up at most
    a thousandfold, down at most to half; in a panic never down. A panic ends once more than a
    stable window has passed since the threshold was last crossed.
    """
    present = max(1, ready)
    up, down = 1000 * present, present // 2
    count = min(max(math.ceil(stable), down), up)
    at = state.at
    if math.ceil(panic) / present >= _PANIC_RATIO:
        at = now
    elif at is not None and at + _STABLE_SECONDS < now:
        return count, Panic()
    if at is None:
        return count, Panic()
    highest = max(state.highest, count, min(max(math.ceil(panic), down), up))
    return highest, Panic(at, highest)


def knative(stable: Floats, panic: Floats, most: int, start_steps: int) -> Ints:
    """Return the course of a KPA with a tick at every step."""
    counts = [min(max(math.ceil(stable[0]), 1), most)]
    state = knative_begin(counts[0], 0.0)
    for step in range(len(stable)):
        ready = min(counts[-start_steps - 1 :])
        count, state = knative_step(
            state, ready, float(stable[step]), float(panic[step]), float(step * STEP_SECONDS)
        )
        counts.append(min(max(count, 1), most))
    return np.array(counts[1:], dtype=np.int64)


def aibrix_apa_step(count: int, ratio: float) -> int:
    """Return APA's count for a metric per pod at `ratio` of its target (tolerance 10 %)."""
    if ratio > 1.1:
        return min(math.ceil(count * ratio), math.ceil(2 * count))
    if ratio < 0.9:
        return max(math.ceil(count * ratio), count // 2)
    return count


def aibrix_apa(worth: Floats, most: int) -> Ints:
    """Return the course of APA on the mean of the last 180 s, a decision at every step."""
    count = min(max(math.ceil(worth[0]), 1), most)
    course = []
    for value in trailing_mean(worth, round(180 / STEP_SECONDS)).tolist():
        count = min(max(aibrix_apa_step(count, value / count), 1), most)
        course.append(count)
    return np.array(course, dtype=np.int64)


def aibrix_kpa_step(
    count: int, stable: float, panic: float, panicking: bool, highest: int
) -> tuple[int, int]:
    """Return (count, highest count of the panic) of AIBrix' KPA as documented.

    `stable` and `panic` are totals in replicas' worth (windows of 180 s and 60 s). At most to
    double and to half, and in a panic never down. As written the latch does not hold and the
    metric is a mean over pods (the project's study of autoscalers, 1.7): this is what it means.
    """

    def desired(total: float) -> int:
        near = abs(1 - total / count) <= 0.1
        wanted = count if near else math.ceil(total)
        return min(max(wanted, count // 2), max(1, math.ceil(2 * count)))

    if not panicking:
        return desired(stable), 0
    highest = max(highest, desired(stable), desired(panic))
    return highest, highest


def aibrix_kpa(worth: Floats, most: int) -> Ints:
    """Return the course of AIBrix' KPA as documented, in panic while twice its stable mean."""
    stable = trailing_mean(worth, round(180 / STEP_SECONDS))
    count, highest = min(max(math.ceil(worth[0]), 1), most), 0
    course = []
    for long, short in zip(stable.tolist(), worth.tolist(), strict=True):
        panicking = long <= 0 or short / long > _PANIC_RATIO
        count, highest = aibrix_kpa_step(count, long, short, panicking, highest)
        count = min(max(count, 1), most)
        course.append(count)
    return np.array(course, dtype=np.int64)


def kubeai(worth: Floats, most: int) -> Ints:
    """Return the course of KubeAI: the mean of ten minutes, down after 30 s of lower results."""
    wanted = np.ceil(trailing_mean(worth, round(600 / STEP_SECONDS)) - 1e-9).astype(np.int64)
    count, lower = min(max(int(wanted[0]), 1), most), 0
    course = []
    for want in wanted.tolist():
        lower = lower + 1 if want < count else 0
        if want > count or lower > round(30 / STEP_SECONDS):
            count, lower = min(max(want, 1), most), 0
        course.append(count)
    return np.array(course, dtype=np.int64)


def trailing_mean(values: Floats, steps: int) -> Floats:
    """Return the mean of the last `steps` values, of fewer at the beginning."""
    summed = np.concatenate([[0.0], np.cumsum(values)])
    step = np.arange(len(values))
    first = np.maximum(step + 1 - steps, 0)
    means: Floats = (summed[step + 1] - summed[first]) / (step + 1 - first)
    return means

"""Knative's KPA and KubeAI, by their published rules and defaults.

Sources: Knative `pkg/autoscaler/scaling/autoscaler.go` and its ConfigMap (v0.49.0), checked
against its own code tick by tick; KubeAI `internal/modelautoscaler/autoscaler.go`,
`internal/modelclient/scale.go` and `internal/movingaverage/simple.go` (2f32ef49). Demand is in
replicas at the target. Both run at the simulation's step instead of every 2 or 10 s.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from r1_evaluation.traces.scenario import STEP_SECONDS, Floats, Ints
from r1_evaluation.traces.windows import trailing_mean

_PANIC_RATIO = 2.0
_STABLE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Panic:
    """Knative's panic mode: time of the last threshold crossing (None: stable), highest count."""

    at: float | None = None
    highest: int = 0


def knative_begin(ready: int, now: float) -> Panic:
    """Return the initial state of a KPA: panic mode when it finds more than one pod."""
    return Panic(now, ready) if ready > 1 else Panic()


def knative_step(
    state: Panic, ready: int, stable: float, panic: float, now: float
) -> tuple[int, Panic]:
    """Return the count after a tick at `now` (s), and the panic state.

    `stable` and `panic` are means over the 60 s and 6 s windows in replicas. A tick raises the
    count at most a thousandfold and at most halves it; panic mode never lowers it. Panic mode
    ends when more than a stable window has passed since the last threshold crossing.
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


def knative(stable: Floats, panic: Floats, max_replicas: int, start_steps: int) -> Ints:
    """Return the counts of a KPA with a tick at every step."""
    counts = [min(max(math.ceil(stable[0]), 1), max_replicas)]
    state = knative_begin(counts[0], 0.0)
    for step in range(len(stable)):
        ready = min(counts[-start_steps - 1 :])
        count, state = knative_step(
            state, ready, float(stable[step]), float(panic[step]), float(step * STEP_SECONDS)
        )
        counts.append(min(max(count, 1), max_replicas))
    return np.array(counts[1:], dtype=np.int64)


def kubeai_step(count: int, wanted: int, lower: int, required: int) -> tuple[int, int]:
    """Return (count, consecutive lower results) of KubeAI.

    A scale-down waits for `required` lower results, the next one for none: only a result that is
    not lower resets the number.
    """
    if wanted < count:
        return (count, lower + 1) if lower < required else (wanted, lower)
    return wanted, 0


def kubeai(demand_in_replicas: Floats, max_replicas: int) -> Ints:
    """Return the counts of KubeAI: the mean of 10 min, down after 30 s of lower results."""
    wanted = np.ceil(trailing_mean(demand_in_replicas, round(600 / STEP_SECONDS)) - 1e-9).astype(
        np.int64
    )
    required = round(30 / STEP_SECONDS)
    count, lower = min(max(int(wanted[0]), 1), max_replicas), 0
    replica_counts = []
    for want in np.clip(wanted, 1, max_replicas).tolist():
        count, lower = kubeai_step(count, want, lower, required)
        replica_counts.append(count)
    return np.array(replica_counts, dtype=np.int64)

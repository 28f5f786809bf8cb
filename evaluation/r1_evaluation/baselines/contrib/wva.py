"""llm-d's Workload Variant Autoscaler, both of its saturation analyzers, for one variant.

`internal/saturation/analyzer.go`, `internal/engines/analyzers/saturation_v2/analyzer.go` and
`internal/engines/pipeline/cost_aware_optimizer.go` at b08b1c77, with the defaults of its
configuration; a look every 30 s at the highest values of the last minute. (llm-d has since
deprecated it in favour of KEDA.)

On a rate-level trace every replica is as full as the next, its KV cache as full as its utilisation,
and queues are those of an overload, where the cache says the same. So what V2 learns from queues
(its compute-bound capacity) and the tokens that wait in the scheduler have no figures here; both
need request-level state. Its wish is carried out at once: the HPA that its chart puts behind it
waits 240 s more in both directions, and its tolerance swallows one replica in ten.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from r1_evaluation.traces.scenario import STEP_SECONDS, Floats, Ints
from r1_evaluation.traces.windows import running_max

KV_THRESHOLD, KV_SPARE = 0.80, 0.10
QUEUE_THRESHOLD, QUEUE_SPARE = 5.0, 3.0
SCALE_UP, SCALE_DOWN = 0.85, 0.70
_MINUTE = round(60 / STEP_SECONDS)
_LOOK = round(30 / STEP_SECONDS)


@dataclass(frozen=True, slots=True)
class Spare:
    """Replicas that are not saturated, and the mean of what they have to spare."""

    replicas: int
    kv: float
    queue: float


def spare(kv: Sequence[float], queue: Sequence[float], kv_threshold: float = KV_THRESHOLD) -> Spare:
    """Return V1's view of replicas: KV cache used (0 to 1) and requests waiting, one of each."""
    free = [
        (kv_threshold - used, QUEUE_THRESHOLD - waiting)
        for used, waiting in zip(kv, queue, strict=True)
        if used < kv_threshold and waiting < QUEUE_THRESHOLD
    ]
    if not free:
        return Spare(0, 0.0, 0.0)
    return Spare(
        len(free), sum(k for k, _ in free) / len(free), sum(q for _, q in free) / len(free)
    )


def v1_verdict(view: Spare, kv_threshold: float = KV_THRESHOLD) -> tuple[bool, bool]:
    """Return V1's (one more, one fewer is safe): by what is spare now, and on one replica fewer."""
    up = view.kv < KV_SPARE or view.queue < QUEUE_SPARE
    if view.replicas < 2:
        return up, False
    factor = view.replicas / (view.replicas - 1)
    kv = kv_threshold - (kv_threshold - view.kv) * factor
    queue = QUEUE_THRESHOLD - (QUEUE_THRESHOLD - view.queue) * factor
    return up, kv >= KV_SPARE and queue >= QUEUE_SPARE


def v1_step(count: int, ready: int, view: Spare, kv_threshold: float = KV_THRESHOLD) -> int:
    """Return V1's count: one up or down, and none of it while a replica has still to come."""
    if ready != count:
        return count
    up, safe = v1_verdict(view, kv_threshold)
    return count + 1 if up else count - 1 if safe else count


def v2_signals(demand: float, per_replica: float, ready: int, pending: int) -> tuple[float, float]:
    """Return V2's (capacity that is required, capacity to spare), in tokens as what it is given.

    What is pending counts for what is required and not for what is to spare.
    """
    required = demand / SCALE_UP - (ready + pending) * per_replica
    to_spare = ready * per_replica - demand / SCALE_DOWN
    return max(0.0, required), max(0.0, to_spare)


def v2_step(count: int, required: float, to_spare: float, per_replica: float) -> int:
    """Return the cost-aware optimiser's count of the one variant, at least one."""
    if per_replica <= 0:
        return count
    if required > 0:
        return count + math.ceil(required / per_replica)
    return max(1, count - math.floor(to_spare / per_replica)) if count > 1 else count


def v1(utilization: Floats, target: float, max_replicas: int, start_steps: int) -> Ints:
    """Return V1's course; `utilization` is demand in replicas' capacities, newest known.

    It asks for more from KV_THRESHOLD - KV_SPARE on, which is the target: .70 by default.
    """
    threshold = target + KV_SPARE

    def decide(count: int, ready: int, load: float) -> int:
        used = min(1.0, load / max(1, ready))
        view = spare([used], [0.0], threshold)
        return v1_step(count, ready, Spare(view.replicas * ready, view.kv, view.queue), threshold)

    return _course(utilization, target, max_replicas, start_steps, decide)


def v2(utilization: Floats, target: float, max_replicas: int, start_steps: int) -> Ints:
    """Return V2's course; it asks for more from SCALE_UP of a capacity on that makes the target."""
    per_replica = target / SCALE_UP

    def decide(count: int, ready: int, load: float) -> int:
        signals = v2_signals(load, per_replica, ready, count - ready)
        return v2_step(count, *signals, per_replica)

    return _course(utilization, target, max_replicas, start_steps, decide)


def _course(
    utilization: Floats,
    target: float,
    max_replicas: int,
    start_steps: int,
    decide: Callable[[int, int, float], int],
) -> Ints:
    seen = running_max(utilization, _MINUTE).tolist()
    counts = [min(max(math.ceil(seen[0] / target), 1), max_replicas)]
    for step, load in enumerate(seen):
        count = counts[-1]
        if step % _LOOK == 0:
            ready = min(counts[-start_steps - 1 :])
            count = min(max(decide(count, ready, load), 1), max_replicas)
        counts.append(count)
    return np.array(counts[1:], dtype=np.int64)

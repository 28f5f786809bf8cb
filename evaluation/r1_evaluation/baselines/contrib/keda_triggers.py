"""KEDA with llm-d's two triggers: requests that run, and requests that queue.

`guides/workload-autoscaling/keda-epp` of llm-d: an HPA with default behaviour on the larger of
`llm_d_epp_request_running` (16 a replica) and `llm_d_epp_flow_control_queue_size` (1 a replica),
polled every 15 s. Running saturates at the seats of the pods that serve, so beyond full it is the
queue that asks for more.

On a rate-level trace what runs is demand times the time a request takes, so a replica's seats are
its capacity and the target is the share of seats that the running trigger allows. The queue is what
demand has exceeded what serves by; a request leaves it after 60 s, the gateway's default. The
token-aware variant divides tokens in flight and filled KV cache by figures of the model; without
prompt lengths and prefill speeds both are what runs, so it has no row of its own.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from r1_evaluation.traces.scenario import STEP_SECONDS, Floats, Ints
from r1_operator.plan.scaling.hpa_simulation import DOWN_WINDOW_SECONDS, TOLERANCE

QUEUED_PER_REPLICA = 1.0
QUEUE_TIMEOUT_SECONDS = 60.0
_DOWN = round(DOWN_WINDOW_SECONDS / STEP_SECONDS)


def wanted(current: int, demands_in_replicas: tuple[float, ...]) -> int:
    """Return the desired count of an HPA with several metrics: the highest of each metric's.

    `demands_in_replicas` are the metrics in replicas at their targets.
    """
    return max(
        current
        if 1 - TOLERANCE <= demand_in_replicas / current <= 1 + TOLERANCE
        else math.ceil(demand_in_replicas - 1e-9)
        for demand_in_replicas in demands_in_replicas
    )


def queued(before: float, demand: float, capacity: float) -> float:
    """Return the queued requests after a step with a demand and a capacity in requests/s."""
    longer = before + (demand - capacity) * STEP_SECONDS
    return min(max(0.0, longer), demand * QUEUE_TIMEOUT_SECONDS)


def simulate(
    demand: Floats,
    capacity: float,
    target: float,
    max_replicas: int,
    start_steps: int,
    min_replicas: int = 1,
) -> Ints:
    """Return the counts; demand and capacity of a replica in requests/s, observed 15 s late."""
    counts = [min(max(math.ceil(demand[0] / (capacity * target)), min_replicas), max_replicas)]
    falling: deque[tuple[int, int]] = deque()
    queue = 0.0
    seen = [(min(float(demand[0]) / capacity, float(counts[0])), 0.0)] * 2
    for step, rate in enumerate(demand.tolist()):
        current = counts[-1]
        running, waiting = seen[-2]
        ask = wanted(current, (running / target, waiting / QUEUED_PER_REPLICA))
        while falling and falling[-1][1] <= ask:
            falling.pop()
        falling.append((step, ask))
        while falling[0][0] <= step - _DOWN:
            falling.popleft()
        stable = min(current, falling[0][1]) if ask < current else ask
        counts.append(
            min(max(min(stable, max(2 * current, current + 4)), min_replicas), max_replicas)
        )
        ready = min(counts[-start_steps - 1 :])
        running = float(ready) if queue > 0 else min(rate / capacity, float(ready))
        queue = queued(queue, rate, ready * capacity)
        seen = [seen[-1], (running, queue)]
    return np.array(counts[1:], dtype=np.int64)

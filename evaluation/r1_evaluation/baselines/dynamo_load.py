"""NVIDIA Dynamo's load planner, by static thresholds and by latencies, and the hybrid.

Formulas and defaults: `core/load_scaling.py`, `core/state_machine.py` and `config/defaults.py` of
`dynamo.planner` (ai-dynamo 1.3.1), one pool of workers (mode `agg`). Every 5 s one replica more or
less, nothing while one starts. A test runs these beside the package, decision by decision.

- **Thresholds** (target `throughput`, the default): more when a KV cache is over 100 % full, less
  when all are under 60 %.
- **Latencies** (target `sla`): more when on every worker the next request's time between tokens is
  expected above the objective; less when it would be below 80 % of it with the caches of one worker
  spread over the others.
- **Hybrid** (`sla`, both loops): the throughput planner's count, every 180 s, is a floor that the
  load loop obeys at its next look.

A rate-level trace knows neither caches nor latencies, so there is an engine: the one that the
package's own tests hold figures of (`tests/data/profiling_results/H200_TP1P_TP1D`). An iteration
takes 4.5 ms and 33.2 ms times the share of the cache in use: least squares through its 34 points of
3,000 to 13,600 tokens of context (R2 .975, at most 6.8 ms off). By Little's law the cache then holds
what comes times as long as it stays, so it fills slowly at first and fast near full. `in_proportion`
is the other reading, by which it fills as the load does. Full is what a replica serves at the
target, and the objective is an iteration with a full cache. Prompts are unknown: their time to first
token is taken to be kept, and then the planner goes by the time between tokens alone. All workers
are equally loaded; what piles up under an overload is left out, as for all policies.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from r1_evaluation.traces.scenario import STEP_SECONDS, Floats, Ints

IDLE_MS, FILLING_MS = 4.5, 33.2
CACHE_TOKENS, REQUEST_TOKENS = 945_029, 3_075
"""The cache of that engine; a request's tokens by the planner's defaults: 3,000 and half of 150."""
OBJECTIVE_MS = IDLE_MS + FILLING_MS
_NEXT = REQUEST_TOKENS / CACHE_TOKENS
_FULL, _LOW = 1.0, 0.6
_SENSITIVITY = 0.8
_TICKS = STEP_SECONDS // 5

Step = Callable[[int, float, int], int]
"""(workers, cache in use, floor) -> workers"""


def filled(load: float) -> float:
    """Return the share of a cache in use at a load (1: served with a full cache).

    Little's law: `share = load x iteration(share) / iteration(1)`. A share over 1 waits.
    """
    if load >= 1:
        return load
    return load * IDLE_MS / (OBJECTIVE_MS - FILLING_MS * load)


def in_proportion(load: float) -> float:
    """Return the share of a cache in use at a load, when requests take equally long at every load."""
    return load


def iteration_ms(usage: float) -> float:
    """Return the time of an iteration with that share of the cache in use."""
    return IDLE_MS + FILLING_MS * usage


def threshold_step(workers: int, usage: float, floor: int = 1) -> int:
    """Return the count by static thresholds, for workers whose caches are all `usage` full."""
    if usage > _FULL:
        return max(workers + 1, floor)
    return max(workers - 1 if usage < _LOW else workers, floor)


def latency_step(workers: int, usage: float, floor: int = 1) -> int:
    """Return the count by latencies, for workers whose caches are all `usage` full."""
    if iteration_ms(usage + _NEXT) > OBJECTIVE_MS:
        return max(workers + 1, floor)
    if workers > 1:
        spread = usage * workers / (workers - 1)
        if iteration_ms(spread + _NEXT) < _SENSITIVITY * OBJECTIVE_MS:
            return max(workers - 1, floor)
    return max(workers, floor)


def simulate(
    demand_in_replicas: Floats,
    max_replicas: int,
    start_steps: int,
    step: Step,
    usage: Callable[[float], float] = filled,
    floors: Ints | None = None,
) -> Ints:
    """Return the counts; `demand_in_replicas` is demand in replicas at the target.

    `floors` are the throughput planner's counts at the same steps, for the hybrid.
    """
    count = min(max(math.ceil(demand_in_replicas[0]), 1), max_replicas)
    counts = [count]
    min_replicas = [1] * len(demand_in_replicas) if floors is None else floors.tolist()
    for value, floor in zip(demand_in_replicas.tolist(), min_replicas, strict=True):
        ready = min(counts[-start_steps - 1 :])
        for _ in range(_TICKS):
            if ready != count:
                break
            count = min(step(count, usage(value / count), floor), max_replicas)
            ready = min(ready, count)
        counts.append(count)
    return np.array(counts[1:], dtype=np.int64)

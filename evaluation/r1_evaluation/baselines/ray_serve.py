"""Ray Serve's default autoscaling: ongoing requests over a target, behind two delays.

Formulas and defaults: `ray.serve.autoscaling_policy` and `ray.serve.config` of ray 2.60.0. A test
runs this beside the package, step by step. Ongoing requests are concurrency: rate times service
time. The target per replica is then what its capacity at the board's target keeps ongoing, and
the service time cancels. What queues up under an overload is ongoing too; a rate-level trace
does not know it, for no policy on the board.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from r1_evaluation.traces.scenario import STEP_SECONDS, Floats, Ints
from r1_evaluation.traces.windows import trailing_mean

LOOK_BACK_SECONDS = 30
UP_DELAY_SECONDS, DOWN_DELAY_SECONDS = 30.0, 600.0
_EPSILON = 1e-6


@dataclass(frozen=True, slots=True)
class Delays:
    """Which way the policy has wanted to go (-1, 0, 1), and since when (seconds)."""

    way: int = 0
    since: float = 0.0


def desired(running: int, demand_in_replicas: float) -> int:
    """Return the count wanted for a demand in replicas of ongoing requests.

    In the owner's order of operations, so that both round alike.
    """
    ratio = demand_in_replicas / running
    return math.ceil(running + 1.0 * (running * ratio - running))


def step(wanted: int, target: int, patience: Delays, now: float) -> tuple[int, Delays]:
    """Return (target, patience) at `now`: up after 30 s of wanting it, down after 600 s."""
    way = (wanted > target) - (wanted < target)
    if way == 0:
        return target, Delays()
    since = patience.since if patience.way == way else now
    delay = UP_DELAY_SECONDS if way > 0 else DOWN_DELAY_SECONDS
    if now - since + _EPSILON >= delay:
        return max(1, wanted), Delays()
    return target, Delays(way, since)


def simulate(demand_in_replicas: Floats, max_replicas: int, start_steps: int) -> Ints:
    """Return the counts; `demand_in_replicas` is the newest demand in replicas."""
    target = min(max(math.ceil(demand_in_replicas[0]), 1), max_replicas)
    counts, patience = [target], Delays()
    for number, value in enumerate(
        trailing_mean(demand_in_replicas, LOOK_BACK_SECONDS // STEP_SECONDS)
    ):
        running = min(counts[-start_steps - 1 :])
        wanted = min(max(desired(running, float(value)), 1), max_replicas)
        target, patience = step(wanted, target, patience, number * STEP_SECONDS)
        counts.append(target)
    return np.array(counts[1:], dtype=np.int64)

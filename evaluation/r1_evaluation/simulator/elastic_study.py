"""Study: autoscalers at request level, with cost, late and lost requests.

A recorded hour is replayed. Engine speed is set so that the hour needs six replicas in the mean.
Start-up times are drawn from a published distribution, and serving replicas fail after twelve
hours in the mean. Every autoscaler has the same draws.

Each policy has its own termination: the operator drains idle replicas first, the others have the
Kubernetes default. `hpa-drained` separates that effect.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from r1_common.contracts.priority_classes import DEFAULT_POLICIES
from r1_evaluation.simulator.arrivals import Arrival, interactive
from r1_evaluation.simulator.elastic import ElasticOutcome, ElasticPool
from r1_evaluation.simulator.engine import EngineSpeed
from r1_evaluation.simulator.fleet import DRAINED, KUBERNETES, Ending
from r1_evaluation.simulator.scalers import Hpa, Knative, Ours, Scaler, Static
from r1_evaluation.simulator.start_times import start_steps
from r1_evaluation.traces.load import RequestTrace
from r1_evaluation.traces.scenario import STEP_SECONDS

MEAN_REPLICAS = 6.0
MAX_DELAY_SECONDS = 5.0
"""How much later than on an idle replica a first token may come."""
TARGETS = tuple(round(0.3 + 0.1 * step, 1) for step in range(10))
PLANNED = 0.7
MEAN_LIFE_SECONDS = 12 * 3600.0
WARM_UP_SECONDS = 300.0
SEEDS = 3
_SHAPE = EngineSpeed(
    base_seconds=0.03, per_sequence_seconds=0.0005, per_prefill_token_seconds=0.0003
)


@dataclass(frozen=True, slots=True)
class Hour:
    """A trace with its engine speed; `capacity` is requests/s of a full replica."""

    name: str
    arrivals: tuple[Arrival, ...]
    speed: EngineSpeed
    capacity: float
    seconds: float


@dataclass(frozen=True, slots=True)
class ElasticPoint:
    """A target's result, means over the seeds.

    `cost` is mean replicas paid, `late` the share of requests lost, refused or delayed too long;
    `lost` counts those cut off by a scale-down, `actions` changes of the count per hour.
    """

    target: float
    cost: float
    late: float
    lost: float
    lost_by_failure: float
    actions: float
    pace_p99: float


def hour_of(trace: RequestTrace) -> Hour:
    """Scale the engine speed so that the mean load keeps `MEAN_REPLICAS` replicas busy."""
    requests = trace.requests
    seconds = requests[-1].at - requests[0].at
    busy = sum(_service_seconds(one.prompt_tokens, one.output_tokens) for one in requests) / seconds
    factor = MEAN_REPLICAS / busy
    speed = replace(
        _SHAPE,
        base_seconds=_SHAPE.base_seconds * factor,
        per_sequence_seconds=_SHAPE.per_sequence_seconds * factor,
        per_prefill_token_seconds=_SHAPE.per_prefill_token_seconds * factor,
    )
    arrivals = tuple(interactive(requests, 1.0, 0.5, seed=0))
    return Hour(trace.name, arrivals, speed, len(requests) / seconds / MEAN_REPLICAS, seconds)


def _service_seconds(prompt_tokens: int, output_tokens: int) -> float:
    """Time of a full replica per request: its prefill and its share of the iterations."""
    iteration = _SHAPE.base_seconds / _SHAPE.seats + _SHAPE.per_sequence_seconds
    return _SHAPE.per_prefill_token_seconds * prompt_tokens + iteration * output_tokens


Made = Callable[[Hour, float, float], Scaler]
POLICIES: dict[str, tuple[Made, Ending]] = {
    "ours-no-forecast": (lambda hour, u, lead: Ours(u, hour.capacity, lead), DRAINED),
    "hpa": (lambda hour, u, _: Hpa(u, hour.capacity), KUBERNETES),
    "hpa-drained": (lambda hour, u, _: Hpa(u, hour.capacity), DRAINED),
    "knative": (lambda hour, u, _: Knative(u, hour.capacity), KUBERNETES),
    "static": (lambda _, u, __: Static(u, MEAN_REPLICAS), DRAINED),
}


def play(hour: Hour, policy: str, target: float, start_seconds: float, seed: int) -> ElasticOutcome:
    """Run the hour once."""
    made, ending = POLICIES[policy]
    drawn = random.Random(seed)  # noqa: S311 (a simulation, no secret)
    starts = [STEP_SECONDS * steps for steps in start_steps(start_seconds)]
    pool = ElasticPool(
        hour.speed,
        DEFAULT_POLICIES,
        ending,
        start_seconds=lambda: drawn.choice(starts),
        mean_life_seconds=MEAN_LIFE_SECONDS,
        seed=seed,
    )
    return pool.run(
        hour.arrivals,
        made(hour, target, start_seconds),
        replicas=round(MEAN_REPLICAS / target),
        warm_up=WARM_UP_SECONDS,
        seconds=hour.seconds,
    )


def curve(
    hour: Hour, policy: str, start_seconds: float, seeds: int = SEEDS
) -> tuple[ElasticPoint, ...]:
    """Run a policy at every target."""
    return tuple(_point(hour, policy, target, start_seconds, seeds) for target in TARGETS)


def _point(
    hour: Hour, policy: str, target: float, start_seconds: float, seeds: int
) -> ElasticPoint:
    runs = [play(hour, policy, target, start_seconds, seed) for seed in range(seeds)]
    scored = hour.seconds - WARM_UP_SECONDS
    paces = np.concatenate([run.paces for run in runs])

    def mean(of: Callable[[ElasticOutcome], float]) -> float:
        return float(np.mean([of(run) for run in runs]))

    return ElasticPoint(
        target=target,
        cost=mean(lambda run: run.paid_seconds) / scored,
        late=mean(lambda run: run.violations(MAX_DELAY_SECONDS)),
        lost=mean(lambda run: run.lost_on_scale_down),
        lost_by_failure=mean(lambda run: run.lost_on_failure),
        actions=mean(lambda run: run.actions) * 3600 / scored,
        pace_p99=float(np.quantile(paces, 0.99)) if len(paces) else 0.0,
    )


def late_at(points: Sequence[ElasticPoint], cost: float) -> float | None:
    """Return the late share of a policy at a cost, interpolated between the points of its curve.

    Of two points at one cost the lower share counts. None outside the curve.
    """
    ordered = sorted(points, key=lambda point: (point.cost, point.late))
    costs, late = [p.cost for p in ordered], np.minimum.accumulate([p.late for p in ordered])
    if not costs[0] <= cost <= costs[-1]:
        return None
    return float(np.interp(cost, costs, late))

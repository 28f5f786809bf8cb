"""Lower bound on cost: headroom chosen in hindsight, a start-up time ahead.

With start-up times of 5 min, an unannounced jump is an overload unless headroom exists already. A
policy therefore decides how much headroom to keep. Here the headroom is chosen in hindsight for each
stretch of time (a day, or a part of one): the current demand, the highest of the last hour or their
mean, times the factor that was best for that stretch, held for 0, 1 or 2.5 min. The times of the
jumps within a stretch stay unknown. Stretches are chosen together: the least cost plus `price` times
the overloaded requests, at the price that meets the SLO at the least cost.

Every parameter is fitted on the scored window, so no rule that uses current demand and the last hour
can cost less. A rule that forecasts single jumps can. Scores are those of the leaderboard, beside an
HPA on the leaderboard's targets and on targets four times as fine.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from r1_evaluation.leaderboard.scoring import FINE_TARGETS, MAX_OVERLOAD, TARGETS
from r1_evaluation.policies.inputs import PolicyInputs
from r1_evaluation.policies.peers import hpa
from r1_evaluation.policies.vectorized import round_up_replicas
from r1_evaluation.simulator.clairvoyant import least_paid
from r1_evaluation.simulator.fluid import service_outcome, serving_counts
from r1_evaluation.traces.scenario import STEP_SECONDS, Bools, Floats, Ints, Scenario
from r1_evaluation.traces.windows import running_max

FACTORS = np.exp(np.arange(0.0, 1.0, 0.02))
PEAK_WEIGHTS = (0.0, 0.5, 1.0)
"""Of the last hour's highest in the geometric mean with the present."""
HELD_STEPS = (1, 4, 10)
PRICES = np.geomspace(1e-2, 1e3, 60)
STRETCH_HOURS = (math.inf, 24.0, 12.0, 6.0)
_HOUR_STEPS = round(3600 / STEP_SECONDS)


@dataclass(frozen=True, slots=True)
class Bound:
    """The cheapest counts that meet the SLO, with headroom chosen per stretch of `hours`.

    `cost` is over the clairvoyant minimum, as on the leaderboard; None: the SLO is never met.
    """

    hours: float
    cost: float | None
    overload: float | None


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bounds, and an HPA's cost at its best target of the leaderboard's grid and of the fine one."""

    trace: str
    start_s: float
    hpa: float | None
    hpa_fine: float | None
    bounds: tuple[Bound, ...]


def hindsight_bounds(scenario: Scenario, stretch_hours: Sequence[float] = STRETCH_HOURS) -> Bounds:
    """Return the bound for each length of a stretch."""
    min_replicas = least_paid(scenario)
    candidates = list(_candidates(scenario))
    found = []
    for hours in stretch_hours:
        best = _cheapest(scenario, candidates, _stretches(scenario, hours))
        cost = None if best is None else best[0] / min_replicas
        found.append(Bound(hours, cost, None if best is None else best[1]))
    inputs = PolicyInputs(scenario)
    coarse, fine = (_hpa(inputs, targets, min_replicas) for targets in (TARGETS, FINE_TARGETS))
    return Bounds(scenario.name, scenario.start_seconds, coarse, fine, tuple(found))


def _candidates(scenario: Scenario) -> Iterator[Ints]:
    """Yield counts at the decision steps for every rule and factor, from observed demand."""
    reading, max_replicas = scenario.reading, PolicyInputs(scenario).max_replicas
    highest = np.asarray(running_max(reading, _HOUR_STEPS), dtype=np.float64)
    for weight in PEAK_WEIGHTS:
        level: Floats = (reading ** (1 - weight) * highest**weight)[
            scenario.decision_steps
        ] / scenario.capacity
        for factor in FACTORS.tolist():
            needed = np.clip(round_up_replicas(level * factor), 1, max_replicas)
            for held in HELD_STEPS:
                yield np.asarray(running_max(needed, held), dtype=np.int64)


def _stretches(scenario: Scenario, hours: float) -> Ints:
    """Return the stretch number of each decision step, counted from the test window."""
    step = np.arange(scenario.begin, len(scenario.demand)) - scenario.test_from
    if math.isinf(hours):
        return np.zeros(len(step), dtype=np.int64)
    return np.maximum(step, 0) // round(hours * _HOUR_STEPS)


def _cheapest(
    scenario: Scenario, candidates: Sequence[Ints], stretch: Ints
) -> tuple[float, float] | None:
    """Return paid replica-steps and overload of the cheapest counts that meet the SLO."""
    scored: Bools = scenario.scored[scenario.decision_steps]
    demand = scenario.demand[scenario.decision_steps]
    count = int(stretch.max()) + 1
    paid, met = (np.zeros((len(candidates), count)) for _ in range(2))
    for row, counts in enumerate(candidates):
        ready = serving_counts(counts, scenario.start_steps) * scenario.capacity * (1 + 1e-9)
        paid[row] = np.bincount(stretch, counts * scored, count)
        met[row] = np.bincount(stretch, demand * (scored & (demand > ready)), count)
    best: tuple[float, float] | None = None
    if count == 1:
        kept = met[:, 0] <= MAX_OVERLOAD * float(demand[scored].sum())
        if not kept.any():
            return None
        row = int(np.where(kept, paid[:, 0], np.inf).argmin())
        return float(paid[row, 0]), float(met[row, 0] / demand[scored].sum())
    for price in PRICES.tolist():
        chosen = (paid + price * met / scenario.capacity).argmin(axis=0)[stretch]
        replica_counts = np.empty(len(stretch), dtype=np.int64)
        for row in np.unique(chosen).tolist():
            replica_counts[chosen == row] = candidates[row][chosen == row]
        # The choice per stretch ignores the cost of changes between stretches: simulate again.
        end = service_outcome(
            scenario, replica_counts, serving_counts(replica_counts, scenario.start_steps)
        )
        if end.overload <= MAX_OVERLOAD and (best is None or end.paid < best[0]):
            best = (end.paid, end.overload)
    return best


def _hpa(inputs: PolicyInputs, targets: Sequence[float], min_replicas: float) -> float | None:
    costs = []
    for target in targets:
        counts = hpa(inputs, target)
        end = service_outcome(
            inputs.scenario, counts, serving_counts(counts, inputs.scenario.start_steps)
        )
        if end.overload <= MAX_OVERLOAD:
            costs.append(end.paid / min_replicas)
    return min(costs, default=None)

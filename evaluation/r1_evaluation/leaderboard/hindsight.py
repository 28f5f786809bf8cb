"""How far a count can go that is set a start-up time ahead: headroom chosen in hindsight.

With starts of five minutes a jump that nothing announced is an overload whatever is done after
it: only headroom that was there already meets it. So the question of a policy is how much headroom
to keep, and over what. Here both are told in hindsight for each stretch of time (a day, a quarter
of one): the present, the highest of the last hour or the mean of both, times the factor that was
best for that very stretch, held for none, one or two and a half minutes. What is not told is when
within a stretch the jumps come. Stretches choose together, the cheapest by cost and `price` times
the requests that met an overload, at the price whose course keeps to the SLO at the least cost.

No policy knows as much, and every parameter is fitted on what is scored, so what this costs is
less than what a rule that goes by the present and the last hour can reach; a rule that foresees
single jumps may do better. Scored as the board scores, beside HPA on the board's grid of targets
and on one four times as fine.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from r1_evaluation.leaderboard.board import FINE_TARGETS, MAX_OVERLOAD, TARGETS
from r1_evaluation.leaderboard.clairvoyant import least_paid
from r1_evaluation.leaderboard.fluid import outcome, running_max, serving
from r1_evaluation.leaderboard.policies import PolicyInputs, hpa
from r1_evaluation.leaderboard.scenario import STEP_SECONDS, Bools, Floats, Ints, Scenario
from r1_evaluation.leaderboard.vectorized import whole

FACTORS = np.exp(np.arange(0.0, 1.0, 0.02))
PEAK_WEIGHTS = (0.0, 0.5, 1.0)
"""Of the last hour's highest in the geometric mean with the present."""
HELD_STEPS = (1, 4, 10)
PRICES = np.geomspace(1e-2, 1e3, 60)
STRETCH_HOURS = (math.inf, 24.0, 12.0, 6.0)
_HOUR_STEPS = round(3600 / STEP_SECONDS)


@dataclass(frozen=True, slots=True)
class Bound:
    """The cheapest course that keeps to the SLO; stretches of `hours` each chose for themselves.

    `cost` is over the clairvoyant minimum, as on the board; None where no course keeps to it.
    """

    hours: float
    cost: float | None
    overload: float | None


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bounds beside what HPA costs at its best target of the board's grid and of the fine one."""

    trace: str
    start_s: float
    hpa: float | None
    hpa_fine: float | None
    bounds: tuple[Bound, ...]


def bounds(world: Scenario, stretch_hours: Sequence[float] = STRETCH_HOURS) -> Bounds:
    """Return what hindsight comes to, for each length of a stretch."""
    least = least_paid(world)
    candidates = list(_candidates(world))
    found = []
    for hours in stretch_hours:
        best = _cheapest(world, candidates, _stretches(world, hours))
        cost = None if best is None else best[0] / least
        found.append(Bound(hours, cost, None if best is None else best[1]))
    bench = PolicyInputs(world)
    coarse, fine = (_hpa(bench, targets, least) for targets in (TARGETS, FINE_TARGETS))
    return Bounds(world.name, world.start_seconds, coarse, fine, tuple(found))


def _candidates(world: Scenario) -> Iterator[Ints]:
    """Courses (played steps) of every rule with every factor, from what a controller sees."""
    reading, most = world.reading, PolicyInputs(world).most
    highest = np.asarray(running_max(reading, _HOUR_STEPS), dtype=np.float64)
    for weight in PEAK_WEIGHTS:
        level: Floats = (reading ** (1 - weight) * highest**weight)[world.played] / world.capacity
        for factor in FACTORS.tolist():
            needed = np.clip(whole(level * factor), 1, most)
            for held in HELD_STEPS:
                yield np.asarray(running_max(needed, held), dtype=np.int64)


def _stretches(world: Scenario, hours: float) -> Ints:
    """The number of the stretch that each played step lies in, counted from the tested window."""
    step = np.arange(world.begin, len(world.demand)) - world.test_from
    if math.isinf(hours):
        return np.zeros(len(step), dtype=np.int64)
    return np.maximum(step, 0) // round(hours * _HOUR_STEPS)


def _cheapest(
    world: Scenario, candidates: Sequence[Ints], stretch: Ints
) -> tuple[float, float] | None:
    """Paid replica-steps and overload of the cheapest course that keeps to the SLO."""
    scored: Bools = world.scored[world.played]
    demand = world.demand[world.played]
    count = int(stretch.max()) + 1
    paid, met = (np.zeros((len(candidates), count)) for _ in range(2))
    for row, counts in enumerate(candidates):
        ready = serving(counts, world.start_steps) * world.capacity * (1 + 1e-9)
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
        chosen = (paid + price * met / world.capacity).argmin(axis=0)[stretch]
        course = np.empty(len(stretch), dtype=np.int64)
        for row in np.unique(chosen).tolist():
            course[chosen == row] = candidates[row][chosen == row]
        # Choosing stretch by stretch disregards what a change costs between them: played anew.
        end = outcome(world, course, serving(course, world.start_steps))
        if end.overload <= MAX_OVERLOAD and (best is None or end.paid < best[0]):
            best = (end.paid, end.overload)
    return best


def _hpa(bench: PolicyInputs, targets: Sequence[float], least: float) -> float | None:
    costs = []
    for target in targets:
        counts = hpa(bench, target)
        end = outcome(bench.world, counts, serving(counts, bench.world.start_steps))
        if end.overload <= MAX_OVERLOAD:
            costs.append(end.paid / least)
    return min(costs, default=None)

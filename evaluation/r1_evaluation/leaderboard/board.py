"""The board: every policy's whole curve of cost against overload, and what each costs at the SLO.

Cost is paid replica-time over the clairvoyant minimum at a utilisation of one. `cost_at_slo` is
the cheapest target that keeps to the SLO, tuned on the scored window for every policy alike;
`before` is the stricter figure: the target tuned on the window's first half, scored on its second.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from r1_evaluation.leaderboard.clairvoyant import least_paid
from r1_evaluation.leaderboard.fluid import ServiceOutcome, outcome, serving, serving_with
from r1_evaluation.leaderboard.policies import POLICIES, PolicyInputs
from r1_evaluation.leaderboard.scenario import PLANNED_UTILIZATION, Ints
from r1_evaluation.leaderboard.starts import start_steps
from r1_evaluation.reference_programs.environment import NotInstalled

TARGETS = tuple(round(0.40 + 0.05 * step, 2) for step in range(17))
FINE_TARGETS = tuple(round(0.40 + 0.0125 * step, 4) for step in range(65))
MAX_OVERLOAD = 0.005


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """A target utilisation, its cost (1 = clairvoyant) and the overloaded share of requests."""

    target: float
    cost: float
    overload: float


@dataclass(frozen=True, slots=True)
class LeaderboardRow:
    """A policy's results; None where no target keeps to the SLO."""

    name: str
    cost_at_slo: float | None
    target_at_slo: float | None
    overload_at_u07: float
    cost_at_u07: float
    actions_per_hour: float
    curve: tuple[CurvePoint, ...]
    before: CurvePoint | None

    def to_json(self) -> dict[str, object]:
        """The row as `--json` prints it."""
        nothing = {"target": None, "cost": None, "overload": None}
        return {**asdict(self), "before": asdict(self.before) if self.before else nothing}


@dataclass(frozen=True, slots=True)
class Leaderboard:
    """All rows of one trace and start-up time."""

    trace: str
    start_s: float
    max_overload: float
    policies: tuple[LeaderboardRow, ...]

    def to_json(self) -> dict[str, object]:
        """The board as `--json` prints it."""
        return {
            "trace": self.trace,
            "start_s": self.start_s,
            "max_overload": self.max_overload,
            "policies": [row.to_json() for row in self.policies],
        }


def play(
    bench: PolicyInputs,
    start_s: float,
    names: Sequence[str],
    seeds: int = 0,
    said: Callable[[str], None] = lambda name: None,
    left_out: Callable[[str, str], None] = lambda name, reason: None,
    targets: Sequence[float] = TARGETS,
) -> Leaderboard:
    """Play the named policies at every target; `said` hears each name before it is played.

    A policy that needs a package that cannot be had has no row; `left_out` hears its name and
    the reason. With `seeds` the start-up times are drawn, so many times, and costs are means
    over the draws. `targets` hold the planned one.
    """
    first, second = bench.world.halves
    bounds = [least_paid(bench.world, part) for part in (None, first, second)]
    rows = []
    for name in names:
        said(name)
        try:
            courses = [POLICIES[name](bench, target) for target in targets]
        except NotInstalled as reason:
            left_out(name, str(reason))
            continue
        rows.append(
            _row(bench, start_s, name, dict(zip(targets, courses, strict=True)), bounds, seeds)
        )
    return Leaderboard(bench.world.name, start_s, MAX_OVERLOAD, tuple(rows))


def cheapest(curve: Sequence[CurvePoint], max_overload: float = MAX_OVERLOAD) -> CurvePoint | None:
    """Return the cheapest point that keeps to the SLO."""
    kept = [point for point in curve if point.overload <= max_overload]
    return min(kept, key=lambda point: point.cost, default=None)


def _row(
    bench: PolicyInputs,
    start_s: float,
    name: str,
    courses: Mapping[float, Ints],
    bounds: Sequence[float],
    seeds: int,
) -> LeaderboardRow:
    first, second = bench.world.halves
    curves: list[list[CurvePoint]] = [[], [], []]
    actions = []
    for target, counts in courses.items():
        if seeds:
            drawn = [serving_with(counts, start_steps(start_s), seed) for seed in range(seeds)]
        else:
            drawn = [serving(counts, bench.world.start_steps)]
        for curve, part, bound in zip(curves, (None, first, second), bounds, strict=True):
            ends = [outcome(bench.world, counts, ready, part) for ready in drawn]
            curve.append(_mean_point(target, ends, bound))
        actions.append(outcome(bench.world, counts, drawn[0]).actions_per_hour)
    whole, early, late = curves
    best = cheapest(whole)
    planned = list(courses).index(PLANNED_UTILIZATION)
    tuned = cheapest(early)
    return LeaderboardRow(
        name=name,
        cost_at_slo=best.cost if best else None,
        target_at_slo=best.target if best else None,
        overload_at_u07=whole[planned].overload,
        cost_at_u07=whole[planned].cost,
        actions_per_hour=actions[whole.index(best) if best else planned],
        curve=tuple(whole),
        before=late[early.index(tuned)] if tuned and bounds[2] > 0 else None,
    )


def _mean_point(target: float, ends: Sequence[ServiceOutcome], bound: float) -> CurvePoint:
    paid = float(np.mean([end.paid for end in ends]))
    overload = float(np.mean([end.overload for end in ends]))
    return CurvePoint(target, paid / bound if bound > 0 else math.inf, overload)

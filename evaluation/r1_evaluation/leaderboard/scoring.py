"""Leaderboard: every policy's curve of cost against overload, and its cost at the SLO.

Cost is paid replica-time over the clairvoyant minimum at a utilization of one. `cost_at_slo` is the
cheapest target that meets the SLO, tuned on the scored window for every policy alike. In
`tuned_on_first_half` the target is tuned on the window's first half and scored on its second.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from r1_evaluation.policies.inputs import PolicyInputs
from r1_evaluation.policies.registry import POLICIES
from r1_evaluation.reference_programs.environment import NotInstalled
from r1_evaluation.simulator.clairvoyant import least_paid
from r1_evaluation.simulator.fluid import (
    ServiceOutcome,
    service_outcome,
    serving_counts,
    serving_counts_with_drawn_starts,
)
from r1_evaluation.simulator.start_times import start_steps
from r1_evaluation.traces.scenario import PLANNED_UTILIZATION, Ints

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
    """Results of a policy; None: no target meets the SLO."""

    name: str
    cost_at_slo: float | None
    target_at_slo: float | None
    overload_at_u07: float
    cost_at_u07: float
    actions_per_hour: float
    curve: tuple[CurvePoint, ...]
    tuned_on_first_half: CurvePoint | None

    def to_json(self) -> dict[str, object]:
        """The row as `--json` prints it."""
        nothing = {"target": None, "cost": None, "overload": None}
        return {
            **asdict(self),
            "tuned_on_first_half": asdict(self.tuned_on_first_half)
            if self.tuned_on_first_half
            else nothing,
        }


@dataclass(frozen=True, slots=True)
class Leaderboard:
    """All rows of one trace and start-up time."""

    trace: str
    start_s: float
    max_overload: float
    policies: tuple[LeaderboardRow, ...]

    def to_json(self) -> dict[str, object]:
        """The leaderboard as `--json` prints it."""
        return {
            "trace": self.trace,
            "start_s": self.start_s,
            "max_overload": self.max_overload,
            "policies": [row.to_json() for row in self.policies],
        }


def score_policies(
    inputs: PolicyInputs,
    start_s: float,
    names: Sequence[str],
    seeds: int = 0,
    on_progress: Callable[[str], None] = lambda name: None,
    on_skipped: Callable[[str, str], None] = lambda name, reason: None,
    targets: Sequence[float] = TARGETS,
) -> Leaderboard:
    """Score the named policies at every target; `on_progress` receives each name first.

    A policy whose package cannot be installed has no row: `on_skipped` receives its name and the
    reason. With `seeds`, start-up times are drawn that many times, and costs are means over the
    draws. `targets` must include `PLANNED_UTILIZATION`.
    """
    first, second = inputs.scenario.halves
    bounds = [least_paid(inputs.scenario, part) for part in (None, first, second)]
    rows = []
    for name in names:
        on_progress(name)
        try:
            counts_by_target = [POLICIES[name](inputs, target) for target in targets]
        except NotInstalled as reason:
            on_skipped(name, str(reason))
            continue
        rows.append(
            _row(
                inputs,
                start_s,
                name,
                dict(zip(targets, counts_by_target, strict=True)),
                bounds,
                seeds,
            )
        )
    return Leaderboard(inputs.scenario.name, start_s, MAX_OVERLOAD, tuple(rows))


def cheapest_within_slo(
    curve: Sequence[CurvePoint], max_overload: float = MAX_OVERLOAD
) -> CurvePoint | None:
    """Return the cheapest point that meets the SLO."""
    within = [point for point in curve if point.overload <= max_overload]
    return min(within, key=lambda point: point.cost, default=None)


def _row(
    inputs: PolicyInputs,
    start_s: float,
    name: str,
    counts_by_target: Mapping[float, Ints],
    bounds: Sequence[float],
    seeds: int,
) -> LeaderboardRow:
    first, second = inputs.scenario.halves
    curves: list[list[CurvePoint]] = [[], [], []]
    actions = []
    for target, counts in counts_by_target.items():
        if seeds:
            drawn = [
                serving_counts_with_drawn_starts(counts, start_steps(start_s), seed)
                for seed in range(seeds)
            ]
        else:
            drawn = [serving_counts(counts, inputs.scenario.start_steps)]
        for curve, part, bound in zip(curves, (None, first, second), bounds, strict=True):
            ends = [service_outcome(inputs.scenario, counts, ready, part) for ready in drawn]
            curve.append(_mean_point(target, ends, bound))
        actions.append(service_outcome(inputs.scenario, counts, drawn[0]).actions_per_hour)
    whole, early, late = curves
    best = cheapest_within_slo(whole)
    planned = list(counts_by_target).index(PLANNED_UTILIZATION)
    tuned = cheapest_within_slo(early)
    return LeaderboardRow(
        name=name,
        cost_at_slo=best.cost if best else None,
        target_at_slo=best.target if best else None,
        overload_at_u07=whole[planned].overload,
        cost_at_u07=whole[planned].cost,
        actions_per_hour=actions[whole.index(best) if best else planned],
        curve=tuple(whole),
        tuned_on_first_half=late[early.index(tuned)] if tuned and bounds[2] > 0 else None,
    )


def _mean_point(target: float, ends: Sequence[ServiceOutcome], bound: float) -> CurvePoint:
    paid = float(np.mean([end.paid for end in ends]))
    overload = float(np.mean([end.overload for end in ends]))
    return CurvePoint(target, paid / bound if bound > 0 else math.inf, overload)

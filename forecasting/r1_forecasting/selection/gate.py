"""Who may act: a model only while the past says that its decisions cost less.

Ungated, a learned model loses 4 to 11 % to the last value on real LLM traffic. So a
learned model acts only while its decision cost beats the last value's by a margin and
beyond chance, and the seasonal naive's too; the seasonal naive may win against the last value and act itself;
where nothing beats the last value the gate stays shut and the operator scales on real
time. A model in charge stays until another is clearly better. Because the operator takes
``max(forecast, now)``, the worst a wrong gate can do is to keep too much, and that is
bounded by the ceiling of the calibration.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from r1_forecasting.arrays import FloatArray

LAST_VALUE = "last-value"
SEASONAL_NAIVE = "seasonal-naive"
MARGIN = 0.02
STAY = 0.03
MIN_OUTCOMES = 30
STRETCHES = 10
DOUBT = 0.75


class GateReason(StrEnum):
    """Why the gate stands as it does."""

    BEATS_BASELINES = "BeatsBaselines"
    BEATS_LAST_VALUE = "BeatsLastValue"
    NO_MODEL_BEATS_LAST_VALUE = "NoModelBeatsLastValue"
    TOO_FEW_OUTCOMES = "TooFewOutcomes"
    CONSTANT_DEMAND = "ConstantDemand"
    COVERAGE_LOST = "CoverageLost"
    MODEL_UNAVAILABLE = "ModelUnavailable"


@dataclass(frozen=True, slots=True)
class Gate:
    """Which model speaks, and whether the operator should act on it.

    ``scores`` are decision costs relative to the last value's on the same origins.
    """

    open: bool
    model: str
    reason: GateReason
    message: str
    scores: Mapping[str, float]


def relative_cost(cost: FloatArray, base: FloatArray) -> float:
    """Sum of ``cost`` over sum of ``base`` where both are known; NaN when too few are.

    1.0 when neither cost anything; infinite when only the base cost nothing.
    """
    both = ~np.isnan(cost) & ~np.isnan(base)
    if int(both.sum()) < MIN_OUTCOMES:
        return float("nan")
    mine, theirs = float(cost[both].sum()), float(base[both].sum())
    if theirs <= 0:
        return 1.0 if mine <= 0 else float("inf")
    return mine / theirs


def clearly_cheaper(cost: FloatArray, base: FloatArray) -> bool:
    """Whether ``cost`` beats ``base`` by more than chance would, on the outcomes they share.

    Neighbouring outcomes overlap, so the differences are averaged over ten stretches of
    time, and the mean of those must lie ``DOUBT`` standard errors below zero.
    """
    both = ~np.isnan(cost) & ~np.isnan(base)
    stretches = np.array_split(cost[both] - base[both], STRETCHES)
    means = np.array([part.mean() for part in stretches if len(part)])
    if len(means) < 2:
        return False
    return bool(means.mean() < -DOUBT * means.std(ddof=1) / np.sqrt(len(means)))


def decide(costs: Mapping[str, FloatArray], *, incumbent: str | None = None) -> Gate:
    """The gate from each model's decision costs at common origins, NaN where it was silent."""
    base = costs[LAST_VALUE]
    scores = {name: relative_cost(cost, base) for name, cost in costs.items()}
    scored = {name: value for name, value in scores.items() if np.isfinite(value)}
    if LAST_VALUE not in scored:
        known = int(np.count_nonzero(~np.isnan(base)))
        return Gate(
            False,
            LAST_VALUE,
            GateReason.TOO_FEW_OUTCOMES,
            f"{known} forecasts scored so far, {MIN_OUTCOMES} are needed to judge a model",
            scored,
        )
    if float(np.nansum(base)) <= 0:
        return Gate(
            False,
            LAST_VALUE,
            GateReason.CONSTANT_DEMAND,
            "the last value has made no error: there is nothing to gain from a model",
            scored,
        )
    winners = [name for name in scored if name != LAST_VALUE and _wins(name, costs, scored)]
    if not winners:
        rivals = {name: value for name, value in scored.items() if name != LAST_VALUE}
        best = min(rivals, key=rivals.__getitem__, default=None)
        said = (
            f"the best of them, {best}, costs {rivals[best]:.2f} times as much"
            if best
            else "no other model has been scored yet"
        )
        return Gate(
            False,
            LAST_VALUE,
            GateReason.NO_MODEL_BEATS_LAST_VALUE,
            f"no model's decisions are clearly cheaper than the last value's: {said}",
            scored,
        )
    best = min(winners, key=scored.__getitem__)
    if (
        incumbent in winners
        and incumbent is not None
        and not relative_cost(costs[best], costs[incumbent]) < 1 - STAY
    ):
        best = incumbent
    saved = f"its decisions cost {scored[best]:.2f} of the last value's"
    if best == SEASONAL_NAIVE:
        return Gate(True, best, GateReason.BEATS_LAST_VALUE, f"{best} acts: {saved}", scored)
    rival = (
        f" and {scored[SEASONAL_NAIVE]:.2f} is the seasonal naive's"
        if (SEASONAL_NAIVE in scored)
        else ""
    )
    return Gate(True, best, GateReason.BEATS_BASELINES, f"{best} acts: {saved}{rival}", scored)


def _wins(name: str, costs: Mapping[str, FloatArray], scored: Mapping[str, float]) -> bool:
    if not (scored[name] < 1 - MARGIN and clearly_cheaper(costs[name], costs[LAST_VALUE])):
        return False
    if name == SEASONAL_NAIVE or SEASONAL_NAIVE not in costs:
        return True
    against = relative_cost(costs[name], costs[SEASONAL_NAIVE])
    return bool(np.isnan(against) or against < 1)

"""Gate: scaling uses a model's forecast only while its backtested decisions cost less.

Without a gate, a learned model costs 4 to 11 % more than the last value on real LLM traffic. The
gate opens for a model whose decision cost is below the last value's by a margin, significantly, and
below the seasonal naive's. The seasonal naive itself has to beat the last value only. Otherwise the
gate is closed and the operator scales on current demand. The model of an open gate changes only for
one that is better by `SWITCH_MARGIN`. Because the operator uses ``max(forecast, now)``, a wrong gate
can only hold too much capacity, and the ceiling of the calibration bounds that.
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
SWITCH_MARGIN = 0.03
MIN_OUTCOMES = 30
TIME_BLOCKS = 10
STANDARD_ERRORS = 0.75


class GateReason(StrEnum):
    """Reason for the state of the gate."""

    BEATS_BASELINES = "BeatsBaselines"
    BEATS_LAST_VALUE = "BeatsLastValue"
    NO_MODEL_BEATS_LAST_VALUE = "NoModelBeatsLastValue"
    TOO_FEW_OUTCOMES = "TooFewOutcomes"
    CONSTANT_DEMAND = "ConstantDemand"
    COVERAGE_LOST = "CoverageLost"
    MODEL_UNAVAILABLE = "ModelUnavailable"


@dataclass(frozen=True, slots=True)
class Gate:
    """The chosen model, and whether scaling uses its forecast (``open``).

    ``scores`` are decision costs relative to the last value's on the same origins.
    """

    open: bool
    model: str
    reason: GateReason
    message: str
    scores: Mapping[str, float]


def relative_cost(cost: FloatArray, base: FloatArray) -> float:
    """Sum of ``cost`` over sum of ``base`` where both are known; NaN for too few outcomes.

    1.0 where both sums are 0; infinite where only the base is 0.
    """
    both = ~np.isnan(cost) & ~np.isnan(base)
    if int(both.sum()) < MIN_OUTCOMES:
        return float("nan")
    cost_sum, base_sum = float(cost[both].sum()), float(base[both].sum())
    if base_sum <= 0:
        return 1.0 if cost_sum <= 0 else float("inf")
    return cost_sum / base_sum


def significantly_cheaper(cost: FloatArray, base: FloatArray) -> bool:
    """Return whether ``cost`` is significantly below ``base`` on their common outcomes.

    Neighbouring outcomes overlap, so the differences are averaged over `TIME_BLOCKS` blocks of
    time, and the mean of the blocks must be `STANDARD_ERRORS` standard errors below 0.
    """
    both = ~np.isnan(cost) & ~np.isnan(base)
    blocks = np.array_split(cost[both] - base[both], TIME_BLOCKS)
    means = np.array([part.mean() for part in blocks if len(part)])
    if len(means) < 2:
        return False
    return bool(means.mean() < -STANDARD_ERRORS * means.std(ddof=1) / np.sqrt(len(means)))


def decide(costs: Mapping[str, FloatArray], *, incumbent: str | None = None) -> Gate:
    """Decide the gate from each model's decision costs at common origins, NaN without a value."""
    base = costs[LAST_VALUE]
    scores = {name: relative_cost(cost, base) for name, cost in costs.items()}
    scored = {name: value for name, value in scores.items() if np.isfinite(value)}
    if LAST_VALUE not in scored:
        known = int(np.count_nonzero(~np.isnan(base)))
        return Gate(
            False,
            LAST_VALUE,
            GateReason.TOO_FEW_OUTCOMES,
            f"{known} forecasts are scored; {MIN_OUTCOMES} are needed to compare models",
            scored,
        )
    if float(np.nansum(base)) <= 0:
        return Gate(
            False,
            LAST_VALUE,
            GateReason.CONSTANT_DEMAND,
            "demand is constant: the last value made no error, so no model can be better",
            scored,
        )
    winners = [name for name in scored if name != LAST_VALUE and _wins(name, costs, scored)]
    if not winners:
        rivals = {name: value for name, value in scored.items() if name != LAST_VALUE}
        best = min(rivals, key=rivals.__getitem__, default=None)
        detail = (
            f"the best, {best}, costs {rivals[best]:.2f} times as much"
            if best
            else "no other model has been scored yet"
        )
        return Gate(
            False,
            LAST_VALUE,
            GateReason.NO_MODEL_BEATS_LAST_VALUE,
            f"no model's decisions cost significantly less than the last value's: {detail}",
            scored,
        )
    best = min(winners, key=scored.__getitem__)
    if (
        incumbent in winners
        and incumbent is not None
        and not relative_cost(costs[best], costs[incumbent]) < 1 - SWITCH_MARGIN
    ):
        best = incumbent
    saved = f"its decisions cost {scored[best]:.2f} times the last value's"
    if best == SEASONAL_NAIVE:
        return Gate(True, best, GateReason.BEATS_LAST_VALUE, f"{best} is in use: {saved}", scored)
    rival = (
        f" (seasonal naive: {scored[SEASONAL_NAIVE]:.2f} times)"
        if (SEASONAL_NAIVE in scored)
        else ""
    )
    return Gate(True, best, GateReason.BEATS_BASELINES, f"{best} is in use: {saved}{rival}", scored)


def _wins(name: str, costs: Mapping[str, FloatArray], scored: Mapping[str, float]) -> bool:
    if not (scored[name] < 1 - MARGIN and significantly_cheaper(costs[name], costs[LAST_VALUE])):
        return False
    if name == SEASONAL_NAIVE or SEASONAL_NAIVE not in costs:
        return True
    against = relative_cost(costs[name], costs[SEASONAL_NAIVE])
    return bool(np.isnan(against) or against < 1)

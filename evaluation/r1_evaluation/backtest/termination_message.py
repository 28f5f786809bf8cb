"""The short form of a backtest for a pod's termination message: verdict and rows, no curves.

A kubelet reads 4 KB. The fields are those of an R1Backtest's status: no floats, costs and shares in
thousandths, and no cost when no target meets the SLO.
"""

from __future__ import annotations

import json

from r1_evaluation.backtest.verdict import BacktestVerdict
from r1_evaluation.leaderboard.scoring import Leaderboard, LeaderboardRow

LARGEST_BYTES = 4096
_LONGEST_ERROR = 1000


def summary(verdict: BacktestVerdict, board: Leaderboard) -> dict[str, object]:
    """Return the verdict and a row for each policy."""
    fields: dict[str, object] = {
        "finding": verdict.finding.value,
        "message": verdict.message,
        "activation": verdict.activation,
    }
    if verdict.target_utilization_percent is not None:
        fields["targetUtilizationPercent"] = verdict.target_utilization_percent
    return {"verdict": fields, "policies": [_row(row) for row in board.policies]}


def summary_text(form: dict[str, object]) -> str:
    """Return the summary as JSON of at most `LARGEST_BYTES`, also with every public policy."""
    return json.dumps(form, separators=(",", ":"))


def error_text(message: str) -> str:
    """Return an error as JSON within the same limit."""
    return json.dumps({"error": message[:_LONGEST_ERROR]}, ensure_ascii=False)


def _row(row: LeaderboardRow) -> dict[str, object]:
    cost, target = row.cost_at_slo, row.target_at_slo
    if cost is None or target is None:
        lowest = min(point.overload for point in row.curve)
        return {"name": row.name, "overloadPerMille": round(1000 * lowest)}
    (best,) = (point for point in row.curve if point.target == target)
    return {
        "name": row.name,
        "costPerMille": round(1000 * cost),
        "overloadPerMille": round(1000 * best.overload),
        "targetUtilizationPercent": round(100 * target),
    }

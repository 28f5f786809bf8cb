"""Verdicts of a backtest, one for each finding."""

import pytest

from r1_evaluation.backtest.verdict import Finding, compare
from r1_evaluation.leaderboard.scoring import CurvePoint, LeaderboardRow


def row(
    name: str, cost: float | None, tuned_on_first_half: CurvePoint | None = None
) -> LeaderboardRow:
    target = None if cost is None else 0.65
    return LeaderboardRow(name, cost, target, 0.0, 2.0, 1.0, (), tuned_on_first_half)


@pytest.mark.parametrize(
    ("ours", "hpa", "finding", "says"),
    [
        (0.90, 1.00, Finding.CHEAPER, "10.0% less"),
        (0.995, 1.00, Finding.EQUAL, "as much as"),
        (1.005, 1.00, Finding.EQUAL, "as much as"),
        (1.20, 1.00, Finding.MORE_EXPENSIVE, "20.0% more"),
        (1.00, None, Finding.ONLY_OURS, "at no target"),
        (None, 1.00, Finding.ONLY_BASELINE, "Ours meets it at no target"),
        (None, None, Finding.NEITHER, "maxReplicas is too low"),
    ],
)
def test_each_finding_has_its_sentence(
    ours: float | None, hpa: float | None, finding: Finding, says: str
) -> None:
    verdict = compare(row("ours", ours), row("ours-no-forecast", 1.0), row("hpa", hpa), 0.005)
    assert verdict.finding is finding
    assert says in verdict.message


def test_the_forecast_is_suggested_only_when_it_lowers_the_cost() -> None:
    hpa = row("hpa", 1.1)
    pays = compare(row("ours", 0.9), row("ours-no-forecast", 1.0), hpa, 0.005)
    assert (pays.activation, pays.target_utilization_percent) == ("RequireBacktest", 65)
    assert "Without its forecast ours costs 0.91 of hpa" in pays.message
    no_help = compare(row("ours", 1.0), row("ours-no-forecast", 1.0), hpa, 0.005)
    assert no_help.activation == "Never"
    alone = compare(row("ours", 1.0), row("ours-no-forecast", None), hpa, 0.005)
    assert alone.activation == "RequireBacktest"


def test_the_ratio_tuned_on_the_first_half_needs_both_near_the_slo() -> None:
    at_highest, broken = CurvePoint(0.7, 1.2, 0.004), CurvePoint(0.7, 1.0, 0.05)
    rows = row("ours", 0.9, at_highest), row("ours-no-forecast", 1.0), row("hpa", 1.0, at_highest)
    assert compare(*rows, 0.005).ratio_tuned_on_first_half == 1.0
    rows = row("ours", 0.9, at_highest), row("ours-no-forecast", 1.0), row("hpa", 1.0, broken)
    assert compare(*rows, 0.005).ratio_tuned_on_first_half is None

"""The reference pages match the code."""

from __future__ import annotations

from pathlib import Path

from r1_evaluation.backtest.verdict import Finding
from r1_forecasting.unavailable import UnavailableReason
from r1_operator.api import meanings
from r1_operator.api.names import (
    BacktestCondition,
    BacktestReason,
    ConditionReason,
    ConditionType,
    ForecastApprovalReason,
)
from r1_operator.api.reference import backtest_page, conditions_page, main, resource_page
from r1_operator.plan.scaling.decision import Decision
from r1_operator.plan.scaling.forecast_rules.forecast_approval import APPROVING_FINDINGS
from r1_operator.plan.scaling.reasons import DecisionMode
from r1_operator.plan.scaling.reasons import DecisionReason as Why

FOLDER = Path(__file__).parents[3] / "docs" / "reference"


def test_the_reference_pages_match_the_types() -> None:
    assert (FOLDER / "r1inference.md").read_text() == resource_page(), "run `make crds`"
    assert (FOLDER / "r1backtest.md").read_text() == backtest_page(), "run `make crds`"
    assert (FOLDER / "conditions.md").read_text() == conditions_page(), "run `make crds`"


def test_every_reason_is_explained_once() -> None:
    explained = [name for group in meanings.REASONS.values() for name in group]
    assert len(explained) == len(set(explained))
    assert set(ConditionReason) <= set(explained)
    assert set(ForecastApprovalReason) - {ForecastApprovalReason.BACKTEST_PASSED} <= set(explained)


def test_approving_findings_exist_in_the_backtest() -> None:
    assert {finding.value for finding in Finding} >= APPROVING_FINDINGS


def test_every_problem_has_an_action() -> None:
    for name, (means, remedy) in meanings.REASONS["Degraded (and Ready=False)"].items():
        assert means.endswith("."), name
        assert remedy.endswith("."), name


def test_the_decisions_reasons_that_reach_conditions_are_explained() -> None:
    limits = {
        why.value for why in Why if Decision(0.0, 1, 1, why, "", DecisionMode.REACTIVE).limited
    }
    scaling = set(meanings.REASONS["ScalingActive and ScalingLimited"])
    assert limits | {Why.METRICS_UNAVAILABLE.value} <= scaling


def test_every_reason_of_a_decision_and_of_a_missing_forecast_is_explained() -> None:
    explained = {name for group in meanings.REASONS.values() for name in group}
    assert {why.value for why in Why} <= explained
    assert {why.value for why in UnavailableReason} == set(meanings.REASONS["ForecastUnavailable"])


def test_every_condition_is_explained() -> None:
    assert set(meanings.CONDITIONS) == set(ConditionType)


def test_backtest_conditions_and_reasons_are_explained() -> None:
    assert set(meanings.BACKTEST_CONDITIONS) == set(BacktestCondition)
    assert set(meanings.BACKTEST_REASONS) == set(BacktestReason)
    for name, (means, remedy) in meanings.BACKTEST_REASONS.items():
        assert means.endswith("."), name
        assert remedy.endswith(".") or name is BacktestReason.BACKTEST_COMPLETED, name


def test_every_field_is_on_the_page() -> None:
    page = resource_page()
    for field in ("`maxConcurrentSequences`", "`quantilePercent`", "`subPath`", "`lastScale`"):
        assert field in page


def test_writing_creates_the_folder(tmp_path: Path) -> None:
    main(tmp_path / "new")
    assert (tmp_path / "new" / "conditions.md").read_text() == conditions_page()

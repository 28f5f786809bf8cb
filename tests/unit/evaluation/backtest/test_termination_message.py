"""What a backtest says where there is room for 4 KB alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from r1_evaluation.backtest import command
from r1_evaluation.backtest.backtest import REQUIRED_POLICIES
from r1_evaluation.backtest.termination_message import (
    LARGEST_BYTES,
    error_text,
    summary,
    summary_text,
)
from r1_evaluation.backtest.verdict import BacktestVerdict, Finding
from r1_evaluation.leaderboard.scoring import TARGETS, CurvePoint, Leaderboard, LeaderboardRow
from r1_operator.api.backtest.schema import backtest_crd
from r1_operator.api.backtest.spec import Policy

VERDICT = BacktestVerdict(
    Finding.CHEAPER, 0.959, None, "Ours costs 4.1% less.", 75, "RequireBacktest"
)


def row(name: str, cost: float | None = 1.19, target: float | None = 0.75) -> LeaderboardRow:
    curve = tuple(CurvePoint(each, 2.0 - each, each / 250) for each in TARGETS)
    return LeaderboardRow(name, cost, target, 0.0028, 1.3, 4.0, curve, None)


def rows_of(*rows: LeaderboardRow) -> list[dict[str, Any]]:
    policies: Any = summary(VERDICT, Leaderboard("trace", 120.0, 0.005, rows))["policies"]
    return list(policies)


def test_costs_and_shares_are_thousandths() -> None:
    (summary_row,) = rows_of(row("ours"))
    assert summary_row == {
        "name": "ours",
        "costPerMille": 1190,
        "overloadPerMille": 3,
        "targetUtilizationPercent": 75,
    }


def test_a_row_that_never_meets_the_slo_has_no_cost() -> None:
    (summary_row,) = rows_of(row("static", None, None))
    assert summary_row == {"name": "static", "overloadPerMille": 2}, "the lowest of the curve"


def test_a_verdict_without_a_target_suggests_none() -> None:
    lost = BacktestVerdict(Finding.NEITHER, None, None, "Neither.", None, "Never")
    on_progress: Any = summary(lost, Leaderboard("trace", 120.0, 0.005, ()))["verdict"]
    assert on_progress == {
        "finding": "NeitherMeetsSLO",
        "message": "Neither.",
        "activation": "Never",
    }


def test_every_public_policy_fits_into_a_termination_message() -> None:
    longest = BacktestVerdict(Finding.ONLY_BASELINE, None, None, "x" * 500, 75, "RequireBacktest")
    names = [*REQUIRED_POLICIES, *Policy]  # all that an object can name
    board = Leaderboard("trace", 120.0, 0.005, tuple(row(name, 123.456, 1.2) for name in names))
    assert len(summary_text(summary(longest, board)).encode()) <= LARGEST_BYTES
    assert len(error_text("ü" * 10_000).encode()) <= LARGEST_BYTES


def test_termination_message_fields_are_those_of_the_status() -> None:
    schema = backtest_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    status = schema["properties"]["status"]["properties"]
    form: Any = summary(VERDICT, Leaderboard("trace", 120.0, 0.005, (row("ours"),)))
    assert set(form) <= set(status)
    assert set(form["verdict"]) == set(status["verdict"]["properties"])
    assert set(form["policies"][0]) == set(status["policies"]["items"]["properties"])
    assert len(Policy) + 3 <= status["policies"]["maxItems"]


def test_a_failed_run_writes_its_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = tmp_path / "message"
    arguments = ["absent.yaml", "--prometheus", "http://127.0.0.1:9", "--message", str(message)]
    assert command.main("backtest", [*arguments, "--json"]) == 3
    error = json.loads(capsys.readouterr().out)["error"]
    assert json.loads(message.read_text()) == {"error": error}


def test_an_unwritable_message_file_is_a_failure_that_names_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["absent.yaml", "--prometheus", "http://127.0.0.1:9", "--message", str(tmp_path)]
    assert command.main("backtest", arguments) == 3
    assert str(tmp_path) in capsys.readouterr().err

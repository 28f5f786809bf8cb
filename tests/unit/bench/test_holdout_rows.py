"""`make bench-holdout`: bars of the holdout clients, and the files that it writes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from r1_bench import holdout
from r1_bench.leaderboard import Cell, PolicyResult
from r1_evaluation.forecast_bench.score import Scored

CLIENT = "qwen_m-small/14"


def scored(error: float, share90: float) -> Scored:
    figures: dict[str, dict[str, float | None]] = {
        "ours": {"mae_rel": error, "wape": error, "coverage90": share90, "coverage95": 0.95},
        "seasonal-naive": {"mae_rel": 1.0, "wape": 1.0, "coverage90": 0.9, "coverage95": 0.95},
    }
    nothing = np.empty(0)
    return Scored(figures, nothing, nothing, {})


def cell(ours: float) -> Cell:
    costs = {"ours": ours, "ours-no-forecast": 1.3, "hpa": 1.4, "seasonal-naive": 1.4, "oracle": 1}
    results = {name: PolicyResult(cost, 1.5, 0.004, None, 5.0) for name, cost in costs.items()}
    wrong = dict.fromkeys(("dead", "x 0.1", "x 10"), (1.5, 0.004))
    return Cell(CLIENT, 300.0, True, results, wrong)


Found = Callable[[float, float], None]


@pytest.fixture
def trace_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Found:
    """Runs in an empty folder, with traces at hand and figures given instead of measured."""
    (tmp_path / holdout.FILE).touch()
    monkeypatch.setenv("R1_TRACES", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def given(error: float, cost: float) -> None:
        def score(folder: Path, clients: list[str]) -> dict[str, Mapping[str, Scored]]:
            return {client: {"24h": scored(error, 0.9)} for client in clients}

        monkeypatch.setattr(holdout, "score", score)
        monkeypatch.setattr(holdout, "score_costs", lambda folder, clients: [cell(cost)])

    return given


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["holdout", *arguments])
    return holdout.main()


def test_rows_and_tables_are_written_to_out(
    trace_folder: Found, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace_folder(0.9, 1.2)
    assert run(monkeypatch, "--only", CLIENT) == 0
    names = [row["name"] for row in json.loads(Path("out/bench-holdout.json").read_text())]
    assert f"error 24h, {CLIENT}" in names
    assert f"cost at SLO, {CLIENT}, 300 s" in names
    assert f"| {CLIENT} | - |" in (holdout.FOLDER / "forecasts.md").read_text()
    assert f"| {CLIENT} | 300 s |" in (holdout.FOLDER / "costs.md").read_text()
    assert f"| {CLIENT} | 300 s | 0.400 % |" in (holdout.FOLDER / "safety.md").read_text()


@pytest.mark.parametrize(("error", "cost"), [(1.2, 1.2), (0.9, 1.39)])
def test_a_client_beyond_a_bar_fails_the_benchmark(
    trace_folder: Found, monkeypatch: pytest.MonkeyPatch, error: float, cost: float
) -> None:
    trace_folder(error, cost)
    assert run(monkeypatch) == 1


def test_one_part_keeps_the_other_parts_table(
    trace_folder: Found, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace_folder(0.9, 1.2)
    assert run(monkeypatch, "--only", "F") == 0
    assert not (holdout.FOLDER / "costs.md").exists()
    rows = json.loads(Path("out/bench-holdout.json").read_text())
    assert {row["name"].split(",")[1].strip() for row in rows} >= set(holdout.HOLDOUT_CLIENTS[:1])


def test_a_share_outside_its_band_is_bold_and_a_missing_one_a_dash() -> None:
    table = holdout.forecasts_table({"a": {"24h": scored(1.583, 0.99)}})
    assert table.splitlines()[-1] == ("| a | - | - | - | - | - | - | 1.583 | **0.990** | 0.950 |")


def test_missing_traces_and_unknown_clients_are_errors(
    trace_folder: Found, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--only", "nobody") == 2
    assert "qwen_m-small/14" in capsys.readouterr().err
    monkeypatch.delenv("R1_TRACES")
    assert run(monkeypatch) == 3
    assert "R1_TRACES" in capsys.readouterr().err

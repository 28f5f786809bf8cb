"""An owner's package that is not there: one line that says why, and nothing half made."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from r1_evaluation.leaderboard import command
from r1_evaluation.leaderboard.scoring import score_policies
from r1_evaluation.policies.inputs import PolicyInputs
from r1_evaluation.reference_programs import predictions
from r1_evaluation.reference_programs.environment import (
    DYNAMO,
    RAY,
    NotInstalled,
    ensure_installed,
    folder_of,
    interpreter_of,
)
from r1_evaluation.reference_programs.reference_process import reference_process
from r1_evaluation.traces.load import RateTrace
from r1_evaluation.traces.scenario import scenario_of


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty cache, and an installer that finds nothing."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def refused(command: list[str], **_: object) -> None:
        raise subprocess.CalledProcessError(2, command, stderr="error: no such host\n\nis it up?\n")

    monkeypatch.setattr(subprocess, "run", refused)


def test_an_environment_is_named_after_its_pins() -> None:
    assert folder_of(DYNAMO) != folder_of(RAY)
    assert folder_of(RAY).name.startswith("ray-2.60.0-")


@pytest.mark.usefixtures("no_network")
def test_an_installation_error_is_one_line() -> None:
    with pytest.raises(
        NotInstalled, match=r"^ray 2.60.0 cannot be installed: .*no such host is it up\?$"
    ):
        ensure_installed(RAY)
    assert interpreter_of(RAY) is None


@pytest.mark.usefixtures("no_network")
def test_a_policy_whose_package_is_missing_has_no_row_and_the_others_have() -> None:
    scenario = scenario_of(RateTrace("flat", 60.0, tuple([60.0] * 120)), 60)
    reasons: dict[str, str] = {}
    board = score_policies(
        PolicyInputs(scenario), 60.0, ("dynamo-arima", "hpa", "dynamo-kalman"),
        on_skipped=reasons.__setitem__,
    )  # fmt: skip
    assert [row.name for row in board.policies] == ["hpa", "dynamo-kalman"]
    assert list(reasons) == ["dynamo-arima"]
    assert "ai-dynamo 1.3.1 cannot be installed" in reasons["dynamo-arima"]


@pytest.mark.usefixtures("no_network")
def test_the_command_fails_with_the_reason_when_no_policy_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = tmp_path / "flat.csv"
    rows = "\n".join(f"{minute * 60},60" for minute in range(120))
    trace.write_text(f"timestamp_s,requests_per_minute\n{rows}\n")
    given = ["--trace", str(trace), "--policies", "dynamo-prophet", "--json"]
    assert command.main(given) == 1
    out = capsys.readouterr()
    assert json.loads(out.out) == {"error": "flat: no policy could be scored"}
    assert "skipping dynamo-prophet: ai-dynamo 1.3.1 cannot be installed" in out.err


def test_a_program_that_does_not_start_counts_as_not_installed() -> None:
    with (
        reference_process(RAY, Path(sys.executable), "ray_serve") as process,
        pytest.raises(NotInstalled, match=r"does not run here: its process exited with 1"),
    ):
        process.send({"period": 15, "target": 2.0, "first": 1, "steps": []})


def test_a_gap_in_the_values_is_refused() -> None:
    with pytest.raises(ValueError, match="forward-fill gaps first"):
        predictions.predict("arima", [1.0, float("nan")], 0)

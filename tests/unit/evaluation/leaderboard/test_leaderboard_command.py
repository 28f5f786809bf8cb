"""The command: JSON and nothing else, exit codes, errors that name the column and the fix."""

import json
import math
from pathlib import Path

import pytest

from r1_evaluation.leaderboard.command import main
from r1_operator.cli import entry

FAST = ("--policies", "hpa,oracle,static")


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    rows = ["timestamp_s,requests_per_minute"]
    rows += [f"{60 * n},{600 + 400 * math.sin(n / 20):.3f}" for n in range(180)]
    path = tmp_path / "wave.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def test_json_is_the_only_output_on_stdout(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--trace", str(trace), "--start", "120", "--json", *FAST]) == 0
    board = json.loads(capsys.readouterr().out)
    assert (board["trace"], board["start_s"], board["max_overload"]) == ("wave", 120.0, 0.005)
    assert [row["name"] for row in board["policies"]] == ["hpa", "oracle", "static"]


def test_the_table_goes_to_stdout_and_progress_to_stderr(
    trace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--trace", str(trace), *FAST]) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines()[0].startswith("wave, start-up 60 s, SLO: at most 0.5%")
    assert printed.err.count("...") == 3


def test_out_writes_markdown_and_a_chart(
    trace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "board"
    assert main(["--trace", str(trace), "--out", str(out), "--json", *FAST]) == 0
    json.loads(capsys.readouterr().out)
    text = (out / "wave-60s.md").read_text()
    assert "![cost against overload](wave-60s.png)" in text
    assert (out / "wave-60s.png").read_bytes().startswith(b"\x89PNG")


def test_a_request_level_trace_is_accepted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = ["timestamp_s,prompt_tokens,output_tokens"]
    rows += [f"{n * 0.7:.1f},100,20" for n in range(3000)]
    path = tmp_path / "requests.csv"
    path.write_text("\n".join(rows) + "\n")
    assert main(["--trace", str(path), "--json", "--start", "18"]) == 0
    assert len(json.loads(capsys.readouterr().out)["policies"]) == 7


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("when,load\n1,2\n", "needs timestamp_s with requests_per_minute"),
        ("timestamp_s,requests_per_minute\n0,1\n60,x\n", "requests_per_minute is 'x'"),
        ("timestamp_s,requests_per_minute\n0,1\n60,1\n", "2 buckets, a test needs at least 4"),
        ("", "has no rows"),
    ],
)
def test_an_unreadable_trace_is_named(
    content: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(content)
    assert main(["--trace", str(path), "--json"]) == 1
    heard = capsys.readouterr()
    assert message in json.loads(heard.out)["error"]
    assert message in heard.err


def test_a_file_with_a_wrong_extension_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("bad.csv.gz", "bad.parquet"):
        path = tmp_path / name
        path.write_bytes(b"\x00\x01 neither")
        assert main(["--trace", str(path)]) == 1
        assert "cannot be read" in capsys.readouterr().err


def test_a_missing_file_exits_with_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--trace", str(tmp_path / "none.csv")]) == 3
    assert "no such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--trace"),
        (["--trace", "x.csv", "--start", "0"], "seconds from 1 to 3600"),
        (["--trace", "x.csv", "--policies", "magic"], "no policy 'magic'; the policies are ours,"),
        (["--trace", "x.csv", "--seeds", "-1"], "a number from 0 to 100"),
    ],
)
def test_invalid_options_exit_with_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_r1_leaderboard_runs_the_evaluation_command(
    trace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert entry.main(["leaderboard", "--trace", str(trace), "--json", *FAST]) == 0
    assert json.loads(capsys.readouterr().out)["trace"] == "wave"


def test_selected_days_equal_a_shorter_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def figures(rows: int, *more: str) -> dict[str, object]:
        path = tmp_path / str(rows) / "wave.csv"
        path.parent.mkdir(exist_ok=True)
        lines = [f"{600 * n},{600 + 400 * math.sin(n / 20):.3f}" for n in range(rows)]
        path.write_text("timestamp_s,requests_per_minute\n" + "\n".join(lines) + "\n")
        assert main(["--trace", str(path), "--json", "--policies", "hpa,oracle", *more]) == 0
        board: dict[str, object] = json.loads(capsys.readouterr().out)
        return board

    assert figures(432, "--days", "0:2") == figures(288)
    assert figures(432, "--days", "1:3") != figures(288)
    assert figures(432) == figures(432, "--days", "0:99")


def test_days_outside_the_trace_are_an_error(
    trace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--trace", str(trace), "--days", "3:5", "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {
        "error": "wave has 0.1 days, nothing from day 3 on"
    }
    for wrong in ("3", "5:3", "a:b", "-1:2"):
        assert main(["--trace", str(trace), f"--days={wrong}"]) == 2
        assert "two days such as 0:9 are required" in capsys.readouterr().err


def test_fine_targets_include_the_coarse_ones(
    trace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def curve(*more: str) -> dict[float, tuple[float, float]]:
        assert main(["--trace", str(trace), "--json", "--policies", "hpa", *more]) == 0
        points = json.loads(capsys.readouterr().out)["policies"][0]["curve"]
        return {point["target"]: (point["cost"], point["overload"]) for point in points}

    coarse, fine = curve(), curve("--fine")
    assert (len(coarse), len(fine)) == (17, 65)
    assert coarse.items() <= fine.items()


def test_the_quantile_option_applies_to_ours(
    trace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--trace", str(trace), "--quantile", "99"]) == 2
    assert "from 50 to 95 is required" in capsys.readouterr().err
    assert main(["--trace", str(trace), "--quantile", "80", "--json", "--policies", "ours"]) == 0
    assert json.loads(capsys.readouterr().out)["policies"][0]["name"] == "ours"

"""`r1 forecast-bench`: the shape of what it prints, and what it says when it cannot."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from r1_evaluation.forecast_bench import command
from r1_evaluation.forecast_bench.series import TooShort, series_of, steps_of, window_of
from r1_evaluation.traces.load import RateTrace, RecordedRequest, RequestTrace
from r1_forecasting.series.series import Series
from r1_operator.cli.entry import main as r1

STEP = 600.0
PER_DAY = 144
KEYS = {"mae_rel", "wape", "coverage90", "coverage95", "pinball90"}


def days(count: float, seed: int = 4) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """A wave a day with proportional noise, ten-minute buckets."""
    at = np.arange(round(count * PER_DAY))
    noise = np.random.default_rng(seed).gamma(100, 0.01, len(at))
    return (100 + 60 * np.sin(2 * np.pi * at / PER_DAY)) * noise


def written(folder: Path, values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Path:
    path = folder / "wave.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["timestamp_s", "requests_per_minute"])
        rows.writerows([i * STEP, value] for i, value in enumerate(values))
    return path


def test_json_has_every_horizon_model_and_figure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = written(tmp_path, days(12))
    given = [
        "--trace",
        str(trace),
        "--models",
        "damped-trend,seasonal-level,seasonal-drift",
        "--json",
    ]
    assert r1(["forecast-bench", *given, "--out", str(tmp_path / "out")]) == 0
    out = capsys.readouterr()
    body = json.loads(out.out)
    assert body["trace"] == "wave"
    assert set(body["horizons"]) == {"10m", "15m", "24h"}
    assert set(body["horizons"]["10m"]) == {
        "last-value", "damped-trend", "seasonal-level", "ours",
    }  # fmt: skip
    assert set(body["horizons"]["24h"]) == {"seasonal-naive", "seasonal-drift", "ours"}
    for models in body["horizons"].values():
        assert all(set(row) == KEYS for row in models.values())
    assert body["horizons"]["10m"]["last-value"]["mae_rel"] == 1.0
    assert body["horizons"]["24h"]["seasonal-naive"]["mae_rel"] == 1.0
    assert body["horizons"]["24h"]["ours"]["mae_rel"] < 1.0
    assert "15m is scored at 1200 s" in out.err
    assert json.loads((tmp_path / "out" / "wave.json").read_text()) == body
    assert (tmp_path / "out" / "wave.png").read_bytes()[:4] == b"\x89PNG"


def test_the_table_marks_ours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = written(tmp_path, days(8))
    assert command.main(["--trace", str(trace), "--models", "damped-trend"]) == 0
    assert "* ours" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        (None, 3, "no such file"),
        ("a,b\n1,2\n", 1, "needs timestamp_s"),
        ("timestamp_s,requests_per_minute\n0,1\n600,2\n1200,1\n", 1, "needs 3"),
        ("timestamp_s,requests_per_minute\n0,x\n", 1, "requests_per_minute is 'x'"),
    ],
)
def test_an_unscorable_trace_error_names_the_cause(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, code: int, message: str
) -> None:
    path = tmp_path / "trace.csv"
    if content is not None:
        path.write_text(content)
    assert command.main(["--trace", str(path), "--json"]) == code
    out = capsys.readouterr()
    assert message in json.loads(out.out)["error"]
    assert message in out.err


def test_an_unknown_model_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(["--trace", "x.csv", "--models", "oracle"])
    assert ended.value.code == 2
    assert "'oracle' is not one of" in capsys.readouterr().err


def test_single_requests_are_counted_by_the_minute_and_gaps_stay_gaps() -> None:
    requests = tuple(RecordedRequest(10.0 + at, 5, 5) for at in (0.0, 59.0, 61.0, 200.0))
    series = series_of(RequestTrace("few", requests))
    assert series.values.tolist() == [2, 1, 0]  # the minute of the last request is not over
    gapped = series_of(RateTrace("gap", 60.0, (1.0, None, 3.0)))
    assert np.isnan(gapped.values[1])


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (60.0, {"10m": 10, "15m": 15, "24h": 1440}),
        (600.0, {"10m": 1, "15m": 2, "24h": 144}),
        (3600.0, {"24h": 24}),
    ],
)
def test_horizons_are_whole_steps_or_skipped(step: float, expected: dict[str, int]) -> None:
    steps, notes = steps_of(Series(0, step, np.ones(10)))
    assert steps == expected
    assert len(notes) == {60.0: 0, 600.0: 1, 3600.0: 2}[step]


def test_the_last_five_to_eight_days_are_tested_and_the_rest_trains() -> None:
    for count, tested in ((14, 5.6), (41, 8), (10, 5), (4, 1.6)):
        series = Series(0, STEP, np.ones(count * PER_DAY))
        window = window_of(series)
        assert len(series) - window.test_from == pytest.approx(tested * PER_DAY, abs=1)
        assert window.warm_from < window.test_from <= window.scored[0]
        assert set(window.scored) <= set(window.origins)
    with pytest.raises(TooShort, match=r"2\.0 days, needs 3"):
        window_of(Series(0, STEP, np.ones(2 * PER_DAY)))

"""`r1 backtest` and `r1 whatif` against a real Prometheus with two weeks of load; no cluster."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from r1_operator.cli import main

MANIFEST = """
apiVersion: deepseek.ai/v1
kind: R1Inference
metadata: {name: production-r1}
spec:
  autoscaling:
    minReplicas: 2
    maxReplicas: 40
    metrics:
    - {type: RequestsPerSecond, target: 8}
    - {type: MeanLatency, target: 2000}
"""


# A forecaster is trained on the way: half a minute of a core that is free.
pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A resource that says two things of which history holds one."""
    path = tmp_path_factory.mktemp("manifest") / "model.yaml"
    path.write_text(MANIFEST)
    return str(path)


@pytest.fixture
def without_forecast(manifest: str, tmp_path: Path) -> str:
    """The same resource, by real time alone."""
    path = tmp_path / "reactive.yaml"
    path.write_text(Path(manifest).read_text() + "    forecast: {activation: Never}\n")
    return str(path)


def json_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """The JSON of a command that has to succeed."""
    code = main([*arguments, "--json"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return json.loads(captured.out)


def test_a_backtest_reads_replays_and_compares(
    prometheus: str, manifest: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "out"
    message = tmp_path / "message"
    printed = json_of(
        capsys, "backtest", manifest, "--prometheus", prometheus, "--out", str(folder),
        "--message", str(message),
    )  # fmt: skip
    left = json.loads(message.read_text())
    assert left["verdict"]["finding"] == printed["verdict"]["finding"]
    assert [row["name"] for row in left["policies"]] == [row["name"] for row in printed["policies"]]
    assert message.stat().st_size < 4096
    assert printed["resource"] == "default/production-r1"
    assert printed["notReplayed"] == ["MeanLatency"]
    rows = {row["name"]: row for row in printed["policies"]}
    assert {"ours", "ours-no-forecast", "hpa", "oracle", "static"} <= set(rows)
    assert printed["verdict"]["ratio"] == pytest.approx(
        rows["ours"]["cost_at_slo"] / rows["hpa"]["cost_at_slo"]
    )
    assert rows["oracle"]["cost_at_slo"] <= rows["ours"]["cost_at_slo"]
    assert rows["static"]["cost_at_slo"] > rows["ours"]["cost_at_slo"]
    # The same settings by the controller's own code: as the board's course has it.
    curve = {point["target"]: point for point in rows["ours"]["curve"]}
    configured = printed["configured"]
    assert configured["ours"]["overload"] == pytest.approx(curve[0.7]["overload"], abs=2e-3)
    per_cost = configured["hpa"]["replicaHours"] / rows["hpa"]["cost_at_u07"]
    assert configured["ours"]["replicaHours"] / per_cost == pytest.approx(
        curve[0.7]["cost"], rel=0.03
    )
    assert configured["hours"] > 100
    written = sorted(path.suffix for path in folder.iterdir())
    assert written == [".md", ".png", ".png"]
    assert all(path.stat().st_size > 500 for path in folder.iterdir())


def test_whatif_compares_yesterday_with_other_settings(
    prometheus: str, without_forecast: str, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = json_of(
        capsys,
        *("whatif", without_forecast, "--prometheus", prometheus),
        *("--max", "6", "--slo-ms", "300", "--since", "1d"),
    )
    assert printed["hours"] == pytest.approx(24, abs=0.1)
    assert printed["changed"]["highestCount"] == 6
    assert printed["current"]["highestCount"] > 6
    assert printed["changed"]["replicaHours"] < printed["current"]["replicaHours"]
    assert printed["changed"]["waitedLonger"] > printed["current"]["waitedLonger"]


def test_a_query_needs_no_resource_and_prints_a_table(
    prometheus: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--query", "sum(rate(r1_gateway_requests_offered_total[1m]))", "--capacity", "8"]
    code = main(["whatif", *arguments, "--prometheus", prometheus, "--no-forecast", "--max", "5"])
    out = capsys.readouterr().out
    assert code == 0
    assert "with max 5, no forecast:" in out
    assert "replica-hours" in out


def test_an_unknown_load_is_not_found(prometheus: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--query", "sum(rate(nobody_total[1m]))", "--capacity", "8"]
    assert main(["backtest", *arguments, "--prometheus", prometheus, "--json"]) == 3
    captured = capsys.readouterr()
    assert "nobody_total" in json.loads(captured.out)["error"]


def test_a_query_of_many_series_gets_a_hint(
    prometheus: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--query", "{__name__=~'.+'} or vector(1)", "--capacity", "8", "--since", "2h"]
    assert main(["backtest", *arguments, "--prometheus", prometheus]) == 1
    assert "sum()" in capsys.readouterr().err


def test_an_unreachable_prometheus_is_a_failure(
    manifest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["backtest", manifest, "--prometheus", "http://127.0.0.1:9"]) == 1
    assert "Prometheus" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["backtest", "x"], "--prometheus"),
        (["backtest", "--prometheus", "u"], "RESOURCE is required"),
        (["backtest", "--prometheus", "u", "--query", "up"], "--capacity"),
        (["backtest", "x", "--prometheus", "u", "--since", "14"], "such as 14d"),
        (["backtest", "x", "--prometheus", "u", "--policies", "magic"], "no policy 'magic'"),
        (["whatif", "x", "--prometheus", "u", "--max", "0"], "from 1 to 10000"),
        (["whatif", "x", "--prometheus", "u", "--slo-ms", "fast"], "a number from"),
    ],
)
def test_invalid_options_exit_with_2_and_a_message(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert says in capsys.readouterr().err

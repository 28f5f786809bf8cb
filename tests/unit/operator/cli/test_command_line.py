"""The command line `r1`: exit codes, JSON output, help."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
import yaml

from r1_operator.cli import main
from r1_operator.cli.decision_view import flattened
from r1_operator.cli.output import age
from r1_operator.cli.status import summary

DECISION = {
    "at": 1_800_000_000.0,
    "current": 2,
    "replicas": 7,
    "reason": "RealTimeDemand",
    "message": "7: 45 requests/s [per second].",
    "mode": "Reactive",
    "hpaReplicas": 6,
    "forecast": {"acting": False, "replicas": None, "message": "Soon.", "unavailable": "Training"},
    "steps": [
        {
            "name": "Demand",
            "before": 2,
            "after": 7,
            "reason": "RealTimeDemand",
            "message": "7: 45 requests/s.",
        }
    ],
    "inputs": {"ready": 2, "demand": {"requestsPerSecond": 45.0}, "silent": []},
}


class FakeOperator(BaseHTTPRequestHandler):
    """An operator with one resource, `default/r1`."""

    decisions: ClassVar[list[object]] = [dict(DECISION, replicas=n) for n in range(1, 8)]

    def do_GET(self) -> None:
        known = self.path == "/decisions/default/r1"
        body = {"decisions": self.decisions} if known else {"error": "no"}
        self.send_response(200 if known else 404)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


@pytest.fixture
def operator_url() -> Iterator[str]:
    """The address of the fake operator."""
    server = HTTPServer(("127.0.0.1", 0), FakeOperator)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def no_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An environment without a kubeconfig."""
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_crd_json_output_has_only_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["crd", "r1inferences", "--json"]) == 0
    out = json.loads(capsys.readouterr().out)
    assert out["metadata"]["name"] == "r1inferences.deepseek.ai"
    assert main(["crd", "--json"]) == 0
    both = json.loads(capsys.readouterr().out)
    assert both["kind"] == "List"
    names = [one["metadata"]["name"] for one in both["items"]]
    assert names == ["r1inferences.deepseek.ai", "r1backtests.deepseek.ai"]
    assert main(["crd"]) == 0
    assert list(yaml.safe_load_all(capsys.readouterr().out)) == both["items"]


def test_explain_prints_message_steps_and_inputs(
    operator_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", "r1", "--operator-url", operator_url]) == 0
    out = capsys.readouterr().out
    assert "7: 45 requests/s [per second]." in out, "brackets in a message are no markup"
    assert "Demand" in out
    assert "demand.requestsPerSecond" in out
    assert "HorizontalPodAutoscaler at the same target would run 6" in out


def test_explain_shows_seat_reservations_and_the_approving_backtest(
    operator_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    held = {"seats": 4, "perGateway": 2, "reason": "Arrivals", "message": "4 of 16 seats [free]."}
    none = dict(held, seats=0, message="Nothing for Q2.")
    forecast_approval = {"approved": False, "reason": "BacktestMissing", "message": "Create it."}
    shown = dict(
        DECISION, seatReservations={"Q1": held, "Q2": none}, forecastApproval=forecast_approval
    )
    monkeypatch.setattr(FakeOperator, "decisions", [shown])
    assert main(["explain", "r1", "--operator-url", operator_url]) == 0
    out = capsys.readouterr().out
    assert "Seat reservation (Arrivals): 4 of 16 seats [free]." in out
    assert "Q2" not in out
    assert "Backtest (BacktestMissing): Create it." in out
    for seat_reservations, expected in (
        ({"unavailable": "NoGateway", "message": "None is known."}, "unknown. None is known."),
        ({"Q1": none}, "Seat reservations: none."),
    ):
        monkeypatch.setattr(
            FakeOperator, "decisions", [dict(DECISION, seatReservations=seat_reservations)]
        )
        assert main(["explain", "r1", "--operator-url", operator_url]) == 0
        assert expected in capsys.readouterr().out


def test_explain_prints_the_outcome_of_a_scored_decision(
    operator_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = {"demandInReplicas": 3.5, "leadTime": {"seconds": 30.0, "measuredStarts": 2}}
    stands = dict(DECISION, at=DECISION["at"] + 100, current=7, inputs=inputs)  # type: ignore[operator]
    monkeypatch.setattr(FakeOperator, "decisions", [dict(DECISION, inputs=inputs), stands])
    assert main(["explain", "r1", "--operator-url", operator_url, "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)["decisions"]
    assert first["score"]["savedReplicaSeconds"] == -100
    assert first["score"]["seconds"] == 100
    assert second["score"] is None
    assert main(["explain", "r1", "--operator-url", operator_url]) == 0
    assert "outcome: 100 more replica-seconds" in capsys.readouterr().out


def test_explain_json_has_the_last_n(operator_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "r1", "--operator-url", operator_url, "--last", "2", "--json"]) == 0
    out = json.loads(capsys.readouterr().out)
    assert [one["replicas"] for one in out["decisions"]] == [6, 7]


def test_not_found_exits_with_3(operator_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "other", "--operator-url", operator_url]) == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "R1Inference default/other does not exist" in captured.err


def test_failure_exits_with_1_and_valid_json(
    no_cluster: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", "--json"]) == 1
    captured = capsys.readouterr()
    assert "KUBECONFIG" in json.loads(captured.out)["error"]
    assert "KUBECONFIG" in captured.err


@pytest.mark.parametrize(
    "arguments", [[], ["nonsense"], ["explain"], ["explain", "r1", "--last", "many"]]
)
def test_wrong_usage_exits_with_2_and_names_help(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert "--help" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["status", "explain", "crd", "serve"])
def test_help_has_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert f"r1 {command}" in capsys.readouterr().out.split("examples:")[1]


def test_serve_needs_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve"]) == 2
    assert "MODEL" in capsys.readouterr().out


def test_nested_inputs_become_flat_lines() -> None:
    assert flattened({"a": {"b": 1.23456, "c": [1, 2]}, "d": None, "e": [{"f": True}]}) == [
        ("a.b", "1.235"),
        ("a.c", "1, 2"),
        ("d", "-"),
        ("e[0].f", "yes"),
    ]


@pytest.mark.parametrize(
    ("then", "expected"),
    [
        ("2026-01-01T00:00:00Z", "3d"),
        ("2026-01-03T20:00:00Z", "4h"),
        ("2026-01-03T23:55:00Z", "5m"),
        ("2026-01-03T23:59:54Z", "6s"),
        (None, "-"),
    ],
)
def test_age_formats_days_hours_minutes_and_seconds(then: str | None, expected: str) -> None:

    assert age(then, datetime(2026, 1, 4, tzinfo=UTC)) == expected


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({}, "no status yet: no operator has reconciled it"),
        ({"Ready": ("False", "WaitingForReplicas", "1 of 2 can serve.")}, "1 of 2 can serve."),
        ({"Ready": ("True", "AllReplicasReady", "All 2 can serve.")}, ""),
        (
            {
                "Ready": ("True", "AllReplicasReady", "All 8 can serve."),
                "ScalingLimited": ("True", "AtGpuBudget", "8: 9 would be needed; ..."),
            },
            "8: 9 would be needed; ...",
        ),
        (
            {
                "Ready": ("True", "AllReplicasReady", "All 8 can serve."),
                "ScalingLimited": ("True", "RateLimited", "8 for now, on the way to 9: ..."),
            },
            "",
        ),
    ],
)
def test_the_status_summary_shows_the_relevant_message(
    conditions: dict[str, tuple[str, str, str]], expected: str
) -> None:
    rows = [
        {"type": kind, "status": status, "reason": reason, "message": message}
        for kind, (status, reason, message) in conditions.items()
    ]
    assert summary({"conditions": rows}) == expected

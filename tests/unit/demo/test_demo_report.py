"""What is told at the end, on a play that never happened: figures, tables, JSON, picture."""

import io
import json
from argparse import ArgumentTypeError
from pathlib import Path

import pytest
from rich.console import Console

from r1_demo.arrivals import Caps
from r1_demo.load_generator import RequestOutcome
from r1_demo.manifests import CHAT, NOTES, SHARES
from r1_demo.measures import by_class, cost_of, quantile, simulate_hpa, smoothed
from r1_demo.observation import Moment, ObservedRequest, read
from r1_demo.options import parse_duration, parse_options
from r1_demo.program import Program, arrange
from r1_demo.recorded import servegen_m_small
from r1_demo.report import Setting, Telling, measured_start, seen_by_second, show, tell, write
from r1_demo.screen import clock, picture, screen, sparkline


def outcome(
    at: float,
    status: int = 200,
    first: float | None = 50.0,
    klass: str | None = "Q1",
    model: str = CHAT,
    error: str = "",
) -> RequestOutcome:
    return RequestOutcome(at, model, klass, status, first, 100.0, 3, 0.1, error)


@pytest.fixture(scope="module")
def program() -> Program:
    return arrange(servegen_m_small(), 120.0, 30.0, 6.0, SHARES, Caps(), seed=3)


def seen_at(second: float) -> dict[str, ObservedRequest]:
    band = {"0.5": 2.0, "0.9": 3.0, "0.95": 3.5} if second > 40 else {}
    chat = ObservedRequest(
        desired=2 if second > 50 else 1,
        ready=2 if second > 58 else 1,
        queued={"Q1": 1},
        in_flight=2,
        band=band,
        acting=True,
        forecast="lstm: up to 3 requests/s",
        reason="ForecastDemand",
        message="2: up to 3 requests/s need 2.",
        reactive=1,
    )
    return {CHAT: chat, NOTES: ObservedRequest(desired=1, ready=1)}


@pytest.fixture(scope="module")
def telling(program: Program) -> Telling:
    outcomes = [
        outcome(
            a.at,
            429 if number % 50 == 0 else 200,
            None if number % 50 == 0 else 20.0 + number % 400,
            a.klass,
            a.model,
            "" if number % 50 else "full",
        )
        for number, a in enumerate(program.arrivals)
    ]
    moments = [Moment(float(second), seen_at(second)) for second in range(150)]
    settings = [Setting(name, 1.2, 0.7, 1, most, 6.0) for name, most in ((CHAT, 4), (NOTES, 2))]
    start = measured_start(moments, (CHAT, NOTES))
    return tell(program, settings, moments, outcomes, start, "lstm")


class TestFigures:
    def test_quantiles_are_of_what_was_answered(self) -> None:
        outcomes = [outcome(0, first=float(n)) for n in range(1, 101)] + [
            outcome(0, 429, None),
            outcome(0, 502, None, error="no pod"),
        ]
        [figures] = by_class(outcomes)
        assert (figures.requests, figures.completed, figures.rejected, figures.failed) == (
            102,
            100,
            1,
            1,
        )
        assert (figures.p50_ms, figures.p99_ms) == (50.0, 99.0)
        assert quantile([], 0.5) is None

    def test_replica_minutes_and_overload(self) -> None:
        counts = [1.0] * 60 + [5.0] * 60
        cost = cost_of([1] * 60 + [2] * 60, [1] * 120, counts, capacity=2.0)
        assert cost.replica_minutes == 3.0
        assert cost.overload == pytest.approx(300 / 360, abs=0.02)
        assert smoothed([0.0, 0.0, 10.0, 0.0, 0.0], 5)[2] == 2.0

    def test_start_is_from_wanted_to_ready(self) -> None:
        moments = [Moment(float(s), seen_at(s)) for s in range(100)]
        assert measured_start(moments, (CHAT, NOTES)) == 8.0
        assert measured_start(moments[:40], (CHAT, NOTES)) is None

    def test_what_was_seen_last_holds(self) -> None:
        moments = [Moment(0.4, seen_at(0)), Moment(52.0, seen_at(52)), Moment(60.2, seen_at(60))]
        wanted, ready = seen_by_second(moments, CHAT, 70)
        assert (wanted[51], wanted[52], ready[60], ready[61]) == (1, 2, 1, 2)


class TestReactive:
    def test_it_follows_late_and_its_replicas_start_late(self) -> None:
        counts = [7.0] * 60 + [14.0] * 60
        run = simulate_hpa(counts, 10.0, 0.7, (1, 4), start_seconds=12.0, down_window=30.0)
        assert run.replicas[59] == 1
        first = run.replicas.index(2)
        assert 75 <= first <= 105  # a metric 15 s old, a look every 15 s
        assert run.ready.index(2) == first + 12

    def test_it_begins_with_what_it_is_given(self) -> None:
        run = simulate_hpa([21.0] * 60, 10.0, 0.7, (1, 4), 12.0, 30.0, first=3)
        assert set(run.replicas) == set(run.ready) == {3}

    def test_it_keeps_them_as_long_as_ours_were_kept(self) -> None:
        run = simulate_hpa([1.0] * 120, 10.0, 0.7, (1, 4), 12.0, 15.0, first=3, hold=60.0)
        assert run.replicas[59] == 3
        assert run.replicas[-1] == 1

    def test_it_comes_down_after_its_window(self) -> None:
        counts = [28.0] * 60 + [7.0] * 120
        run = simulate_hpa(counts, 10.0, 0.7, (1, 4), start_seconds=5.0, down_window=30.0)
        assert max(run.replicas) == 4
        assert run.replicas[-1] == 1
        assert all(ready <= wanted for ready, wanted in zip(run.ready, run.replicas, strict=True))


class TestTelling:
    def test_the_document_has_what_is_scored(self, telling: Telling, tmp_path: Path) -> None:
        document, image = write(telling, tmp_path)
        told = json.loads(document.read_text())
        assert told["requests"] == len(telling.program.arrivals)
        assert told["rejected"] == told["requests"] - told["completed"]
        assert told["failed"] == 0
        assert set(told["classes"]) == {"Q1", "Q2", "Q3", "-"}
        assert told["classes"]["Q1"]["ttft_p99_ms"] >= told["classes"]["Q1"]["ttft_p50_ms"]
        assert told["replica_minutes"] > 0
        assert told["replica_minutes_reactive"] > 0
        assert len(told["timeline"]) == 150
        assert told["timeline"][60]["resources"][CHAT]["ready"] == 2
        assert image.read_bytes().startswith(b"\x89PNG")

    def test_a_request_without_an_outcome_failed(self, telling: Telling) -> None:
        program = telling.program
        silent = tell(program, [r.setting for r in telling.resources], [], [], None, "none")
        assert silent.total.failed == len(program.arrivals)
        assert "no answer before the play ended" in {o.error for o in silent.outcomes}

    def test_the_tables_name_what_reactive_scaling_would_have_done(self, telling: Telling) -> None:
        console = Console(file=io.StringIO(), width=120)
        show(console, telling)
        text = console.file.getvalue()  # type: ignore[attr-defined]
        assert "reactive (HPA), computed" in text
        assert "take 8 s to start (as measured here)" in text
        assert "One second of the play is 12 minutes of the trace." in text


class TestScreen:
    def test_a_moment_shows_everything(self, program: Program) -> None:
        console = Console(file=io.StringIO(), width=140)
        outcomes = [outcome(50.0 + n / 10) for n in range(20)]
        console.print(picture(program, Moment(60.0, seen_at(60)), outcomes, 140))
        text = console.file.getvalue()  # type: ignore[attr-defined]
        for part in (
            "a start of 10 s weighs like 2.0 hours",
            "the day 06:",
            "●●",
            "2.0 to 3.5/s",
            "ForecastDemand",
            "Q1",
            "offered",
        ):
            assert part in text

    def test_without_a_terminal_a_line_now_and_then(self, program: Program) -> None:
        console = Console(file=io.StringIO(), width=140, force_terminal=False)
        with screen(console, program) as display:
            for second in range(31):
                display(Moment(float(second), seen_at(second)), [])
        lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
        assert len(lines) == 3
        assert "demo-chat 1/1 queue 1 ForecastDemand" in lines[0]

    def test_the_clock_is_the_traces_own(self, program: Program) -> None:
        assert clock(program, program.lead_in) == "the day 00:00"
        assert clock(program, program.lead_in + 60.0) == "the day 12:00"
        assert clock(program, program.lead_in - 10.0) == "the day before 22:00"
        assert clock(program, program.seconds + 1.0) == "the last answers"

    def test_sparks(self) -> None:
        assert sparkline([0.0, 1.0, 2.0], 10) == " ▄█"
        assert sparkline([], 10) == ""


def test_signals_and_decisions_are_read_into_what_is_seen() -> None:
    route = {
        "readyEndpoints": 2,
        "queued": {"Q1": 1, "Q2": 0},
        "inFlight": {"Q1": 2},
        "oldestWaitSeconds": {"Q1": 0.5},
    }
    decision = {
        "replicas": 3,
        "reason": "ForecastDemand",
        "message": "3: ...",
        "hpaReplicas": 2,
        "forecast": {"acting": True, "message": "lstm"},
        "inputs": {"forecast": {"peakOverLead": {"0.9": 4.0}}},
    }
    seen = read(route, decision)
    assert (seen.desired, seen.ready, seen.reactive, seen.acting) == (3, 2, 2, True)
    assert (seen.band, seen.oldest_wait) == ({"0.9": 4.0}, 0.5)
    assert read(None, None) == ObservedRequest()


class TestOptions:
    @pytest.mark.parametrize(
        ("text", "seconds"), [("10m", 600), ("2m", 120), ("90s", 90), ("1h", 3600), ("45", 45)]
    )
    def test_durations(self, text: str, seconds: float) -> None:
        assert parse_duration(text) == seconds

    @pytest.mark.parametrize("text", ["", "fast", "-5m", "10d", "5s"])
    def test_what_is_none(self, text: str) -> None:
        with pytest.raises(ArgumentTypeError):
            parse_duration(text)

    def test_a_trace_that_is_not_there(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            parse_options(["--trace", "/nowhere.csv"])
        assert "there is no file /nowhere.csv" in capsys.readouterr().err

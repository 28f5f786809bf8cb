"""What is told at the end, on a play that never happened: figures, tables, JSON, picture."""

import io
import json
from argparse import ArgumentTypeError
from pathlib import Path

import pytest
from rich.console import Console

from r1_demo.arrivals import Caps
from r1_demo.bundled_trace import servegen_m_small
from r1_demo.live_view import clock, live_view, render, sparkline
from r1_demo.load_generator import RequestOutcome
from r1_demo.manifests import CHAT, NOTES, SHARES
from r1_demo.measures import by_class, cost_of, quantile, simulate_hpa, smoothed
from r1_demo.observation import ResourceSample, Sample, resource_sample
from r1_demo.options import parse_duration, parse_options
from r1_demo.report import (
    ResourceSettings,
    RunReport,
    build_report,
    measured_start,
    print_report,
    replicas_by_second,
    write,
)
from r1_demo.schedule import LoadSchedule, build_schedule


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
def schedule() -> LoadSchedule:
    return build_schedule(servegen_m_small(), 120.0, 30.0, 6.0, SHARES, Caps(), seed=3)


def seen_at(second: float) -> dict[str, ResourceSample]:
    band = {"0.5": 2.0, "0.9": 3.0, "0.95": 3.5} if second > 40 else {}
    chat = ResourceSample(
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
    return {CHAT: chat, NOTES: ResourceSample(desired=1, ready=1)}


@pytest.fixture(scope="module")
def run_report(schedule: LoadSchedule) -> RunReport:
    outcomes = [
        outcome(
            a.at,
            429 if number % 50 == 0 else 200,
            None if number % 50 == 0 else 20.0 + number % 400,
            a.klass,
            a.model,
            "" if number % 50 else "full",
        )
        for number, a in enumerate(schedule.arrivals)
    ]
    samples = [Sample(float(second), seen_at(second)) for second in range(150)]
    settings = [
        ResourceSettings(name, 1.2, 0.7, 1, most, 6.0) for name, most in ((CHAT, 4), (NOTES, 2))
    ]
    start = measured_start(samples, (CHAT, NOTES))
    return build_report(schedule, settings, samples, outcomes, start, "lstm")


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
        samples = [Sample(float(s), seen_at(s)) for s in range(100)]
        assert measured_start(samples, (CHAT, NOTES)) == 8.0
        assert measured_start(samples[:40], (CHAT, NOTES)) is None

    def test_what_was_seen_last_holds(self) -> None:
        samples = [Sample(0.4, seen_at(0)), Sample(52.0, seen_at(52)), Sample(60.2, seen_at(60))]
        desired, ready = replicas_by_second(samples, CHAT, 70)
        assert (desired[51], desired[52], ready[60], ready[61]) == (1, 2, 1, 2)


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
        assert all(ready <= desired for ready, desired in zip(run.ready, run.replicas, strict=True))


class TestTelling:
    def test_the_document_has_what_is_scored(self, run_report: RunReport, tmp_path: Path) -> None:
        document, image = write(run_report, tmp_path)
        told = json.loads(document.read_text())
        assert told["requests"] == len(run_report.schedule.arrivals)
        assert told["rejected"] == told["requests"] - told["completed"]
        assert told["failed"] == 0
        assert set(told["classes"]) == {"Q1", "Q2", "Q3", "-"}
        assert told["classes"]["Q1"]["ttft_p99_ms"] >= told["classes"]["Q1"]["ttft_p50_ms"]
        assert told["replica_minutes"] > 0
        assert told["replica_minutes_reactive"] > 0
        assert len(told["timeline"]) == 150
        assert told["timeline"][60]["resources"][CHAT]["ready"] == 2
        assert image.read_bytes().startswith(b"\x89PNG")

    def test_a_request_without_an_outcome_failed(self, run_report: RunReport) -> None:
        schedule = run_report.schedule
        silent = build_report(
            schedule, [r.setting for r in run_report.resources], [], [], None, "none"
        )
        assert silent.total.failed == len(schedule.arrivals)
        assert "no answer before the play ended" in {o.error for o in silent.outcomes}

    def test_the_tables_name_what_reactive_scaling_would_have_done(
        self, run_report: RunReport
    ) -> None:
        console = Console(file=io.StringIO(), width=120)
        print_report(console, run_report)
        text = console.file.getvalue()  # type: ignore[attr-defined]
        assert "reactive (HPA), computed" in text
        assert "take 8 s to start (as measured here)" in text
        assert "One second of the play is 12 minutes of the trace." in text


class TestScreen:
    def test_a_moment_shows_everything(self, schedule: LoadSchedule) -> None:
        console = Console(file=io.StringIO(), width=140)
        outcomes = [outcome(50.0 + n / 10) for n in range(20)]
        console.print(render(schedule, Sample(60.0, seen_at(60)), outcomes, 140))
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

    def test_without_a_terminal_a_line_now_and_then(self, schedule: LoadSchedule) -> None:
        console = Console(file=io.StringIO(), width=140, force_terminal=False)
        with live_view(console, schedule) as display:
            for second in range(31):
                display(Sample(float(second), seen_at(second)), [])
        lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
        assert len(lines) == 3
        assert "demo-chat 1/1 queue 1 ForecastDemand" in lines[0]

    def test_the_clock_is_the_traces_own(self, schedule: LoadSchedule) -> None:
        assert clock(schedule, schedule.lead_in) == "the day 00:00"
        assert clock(schedule, schedule.lead_in + 60.0) == "the day 12:00"
        assert clock(schedule, schedule.lead_in - 10.0) == "the day before 22:00"
        assert clock(schedule, schedule.seconds + 1.0) == "the last answers"

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
        "reactive": 2,
        "forecast": {"acting": True, "message": "lstm"},
        "inputs": {"forecast": {"peakOverLead": {"0.9": 4.0}}},
    }
    seen = resource_sample(route, decision)
    assert (seen.desired, seen.ready, seen.reactive, seen.acting) == (3, 2, 2, True)
    assert (seen.band, seen.oldest_wait) == ({"0.9": 4.0}, 0.5)
    assert resource_sample(None, None) == ResourceSample()


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

"""The report of a synthetic run: figures, comparison with an HPA, tables, JSON, chart, options."""

import io
import json
from argparse import ArgumentTypeError
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from r1_demo.load.arrivals import Caps
from r1_demo.load.bundled_trace import servegen_m_small
from r1_demo.load.load_generator import RequestOutcome
from r1_demo.load.schedule import LoadSchedule, build_schedule
from r1_demo.options import parse_duration, parse_options
from r1_demo.reporting.live_view import clock, live_view, render, sparkline
from r1_demo.reporting.measures import (
    HPA_TARGETS,
    ReplicaCost,
    SimulatedHpa,
    by_class,
    compare_with_hpa,
    cost_of,
    quantile,
    simulate_hpa,
    smoothed,
)
from r1_demo.reporting.observation import ResourceSample, RunSample, resource_sample
from r1_demo.reporting.report import (
    ResourceSettings,
    RunReport,
    build_report,
    measured_start,
    print_report,
    replicas_by_second,
    result,
    write,
)
from r1_demo.setup.manifests import CHAT, NOTES, SHARES


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
    samples = [RunSample(float(second), seen_at(second)) for second in range(150)]
    settings = [
        ResourceSettings(name, 1.2, 0.7, 1, most, 6.0) for name, most in ((CHAT, 4), (NOTES, 2))
    ]
    start = measured_start(samples, (CHAT, NOTES))
    return build_report(schedule, settings, samples, outcomes, start, "lstm")


class TestFigures:
    def test_quantiles_cover_completed_requests_only(self) -> None:
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

    def test_cost_holds_replica_minutes_and_overload(self) -> None:
        counts = [1.0] * 60 + [5.0] * 60
        cost = cost_of([1] * 60 + [2] * 60, [1] * 120, counts, capacity=2.0)
        assert cost.replica_minutes == 3.0
        assert cost.overload == pytest.approx(300 / 360, abs=0.02)
        assert smoothed([0.0, 0.0, 10.0, 0.0, 0.0], 5)[2] == 2.0

    def test_start_time_is_measured_from_desired_to_ready(self) -> None:
        samples = [RunSample(float(s), seen_at(s)) for s in range(100)]
        assert measured_start(samples, (CHAT, NOTES)) == 8.0
        assert measured_start(samples[:40], (CHAT, NOTES)) is None

    def test_the_newest_sample_holds_until_the_next(self) -> None:
        samples = [
            RunSample(0.4, seen_at(0)),
            RunSample(52.0, seen_at(52)),
            RunSample(60.2, seen_at(60)),
        ]
        desired, ready = replicas_by_second(samples, CHAT, 70)
        assert (desired[51], desired[52], ready[60], ready[61]) == (1, 2, 1, 2)


class TestSimulatedHpa:
    def test_metric_delay_and_start_time_delay_the_replicas(self) -> None:
        counts = [7.0] * 60 + [14.0] * 60
        run = simulate_hpa(counts, 10.0, 0.7, (1, 4), start_seconds=12.0, down_window=30.0)
        assert run.replicas[59] == 1
        first = run.replicas.index(2)
        assert 75 <= first <= 105  # a metric 15 s old, a sync every 15 s
        assert run.ready.index(2) == first + 12

    def test_the_hpa_starts_with_the_given_replicas(self) -> None:
        run = simulate_hpa([21.0] * 60, 10.0, 0.7, (1, 4), 12.0, 30.0, first=3)
        assert set(run.replicas) == set(run.ready) == {3}

    def test_the_first_replicas_are_the_minimum_during_the_hold(self) -> None:
        run = simulate_hpa([1.0] * 120, 10.0, 0.7, (1, 4), 12.0, 15.0, first=3, hold=60.0)
        assert run.replicas[59] == 3
        assert run.replicas[-1] == 1

    def test_scale_down_follows_the_window(self) -> None:
        counts = [28.0] * 60 + [7.0] * 120
        run = simulate_hpa(counts, 10.0, 0.7, (1, 4), start_seconds=5.0, down_window=30.0)
        assert max(run.replicas) == 4
        assert run.replicas[-1] == 1
        assert all(ready <= desired for ready, desired in zip(run.ready, run.replicas, strict=True))


class TestComparison:
    """HPAs whose replicas are `10 x (1 - target)`, all ready, on a load that needs five."""

    COUNTS = (5.0,) * 60

    def simulate(self, target: float) -> SimulatedHpa:
        replicas = [round(10 * (1.0 - target))] * 60
        return SimulatedHpa(replicas, replicas)

    def test_equal_service_is_the_cheapest_target_without_more_overload(self) -> None:
        comparison = compare_with_hpa(ReplicaCost(7.0, 0.0), 0.7, self.simulate, self.COUNTS, 1.0)
        assert comparison.equal_service is not None
        assert comparison.equal_service.cost == ReplicaCost(5.0, 0.0)
        assert comparison.same_target.cost == ReplicaCost(3.0, 1.0)

    def test_equal_cost_is_the_least_overload_for_the_same_replica_minutes(self) -> None:
        comparison = compare_with_hpa(ReplicaCost(4.0, 0.0), 0.7, self.simulate, self.COUNTS, 1.0)
        assert comparison.equal_cost is not None
        assert comparison.equal_cost.cost.replica_minutes <= 4.0
        assert comparison.equal_cost.cost.overload == 1.0

    def test_targets_that_do_not_reach_the_service_give_none(self) -> None:
        comparison = compare_with_hpa(ReplicaCost(0.5, 0.0), 0.7, self.simulate, (20.0,) * 60, 1.0)
        assert comparison.equal_service is None
        assert comparison.equal_cost is not None
        assert comparison.equal_cost.target in HPA_TARGETS

    def test_the_result_names_both_costs_and_the_overload_that_an_hpa_leaves(
        self, run_report: RunReport
    ) -> None:
        comparison = compare_with_hpa(ReplicaCost(4.0, 0.0), 0.7, self.simulate, self.COUNTS, 1.0)
        figures = replace(run_report.resources[0], cost=ReplicaCost(4.0, 0.0), hpa=comparison)
        assert result(figures) == (
            "demo-chat: 0.0% of requests overloaded with 4.0 replica-minutes. An HPA needs 5.0 for "
            "that (target utilization 54%); with 4.0 it leaves 100.0% overloaded (target utilization "
            "55%)."
        )
        none = replace(figures, hpa=replace(comparison, equal_service=None, equal_cost=None))
        assert result(none).endswith(
            "An HPA overloads at least 0.0%, with 5.0 (target utilization 54%); at no target "
            "utilization does it cost 4.0 or less."
        )


class TestReport:
    def test_the_document_holds_requests_costs_and_timeline(
        self, run_report: RunReport, tmp_path: Path
    ) -> None:
        document, image = write(run_report, tmp_path)
        document_json = json.loads(document.read_text())
        assert document_json["requests"] == len(run_report.schedule.arrivals)
        assert document_json["rejected"] == document_json["requests"] - document_json["completed"]
        assert document_json["failed"] == 0
        assert set(document_json["classes"]) == {"Q1", "Q2", "Q3", "-"}
        assert (
            document_json["classes"]["Q1"]["ttft_p99_ms"]
            >= document_json["classes"]["Q1"]["ttft_p50_ms"]
        )
        assert document_json["replica_minutes"] > 0
        assert document_json["replica_minutes_hpa"] > 0
        assert document_json["result"][0].startswith("demo-chat: ")
        hpa = document_json["resources"][CHAT]["hpa"]
        assert hpa["same_target"]["target_utilization"] == 0.7
        assert len(document_json["timeline"]) == 150
        assert document_json["timeline"][60]["resources"][CHAT]["ready"] == 2
        assert image.read_bytes().startswith(b"\x89PNG")

    def test_a_request_without_an_outcome_failed(self, run_report: RunReport) -> None:
        schedule = run_report.schedule
        silent = build_report(
            schedule, [r.settings for r in run_report.resources], [], [], None, "none"
        )
        assert silent.total.failed == len(schedule.arrivals)
        assert "no response before the run ended" in {o.error for o in silent.outcomes}

    def test_the_result_is_printed_before_the_tables(self, run_report: RunReport) -> None:
        console = Console(file=io.StringIO(), width=120)
        print_report(console, run_report)
        text = console.file.getvalue()  # type: ignore[attr-defined]
        text = " ".join(text.split())
        assert text.startswith("demo-chat: ")
        assert text.index("of requests overloaded with") < text.index("Requests")
        assert "HPA at equal service, simulated" in text
        assert "take 8 s to start (measured in this run)" in text
        assert "One second of the run is 12 minutes of the trace." in text


class TestLiveView:
    def test_the_view_shows_clock_replicas_forecast_reason_and_classes(
        self, schedule: LoadSchedule
    ) -> None:
        console = Console(file=io.StringIO(), width=140)
        outcomes = [outcome(50.0 + n / 10) for n in range(20)]
        console.print(render(schedule, RunSample(60.0, seen_at(60)), outcomes, 140))
        text = console.file.getvalue()  # type: ignore[attr-defined]
        for part in (
            "10 s of start-up are 2.0 hours of the trace",
            "the day 06:",
            "●●",
            "2.0 to 3.5/s",
            "ForecastDemand",
            "Q1",
            "offered",
        ):
            assert part in text

    def test_without_a_terminal_a_line_appears_every_15_seconds(
        self, schedule: LoadSchedule
    ) -> None:
        console = Console(file=io.StringIO(), width=140, force_terminal=False)
        with live_view(console, schedule) as display:
            for second in range(31):
                display(RunSample(float(second), seen_at(second)), [])
        lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
        assert len(lines) == 3
        assert "demo-chat 1/1 queue 1 ForecastDemand" in lines[0]

    def test_the_clock_shows_the_time_of_the_trace(self, schedule: LoadSchedule) -> None:
        assert clock(schedule, schedule.lead_in) == "the day 00:00"
        assert clock(schedule, schedule.lead_in + 60.0) == "the day 12:00"
        assert clock(schedule, schedule.lead_in - 10.0) == "the day before 22:00"
        assert clock(schedule, schedule.seconds + 1.0) == "the last responses"

    def test_sparklines_scale_to_the_highest_value(self) -> None:
        assert sparkline([0.0, 1.0, 2.0], 10) == " ▄█"
        assert sparkline([], 10) == ""


def test_signals_and_decisions_become_a_sample() -> None:
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
    sample = resource_sample(route, decision)
    assert (sample.desired, sample.ready, sample.reactive, sample.acting) == (3, 2, 2, True)
    assert (sample.band, sample.oldest_wait) == ({"0.9": 4.0}, 0.5)
    assert resource_sample(None, None) == ResourceSample()


class TestOptions:
    @pytest.mark.parametrize(
        ("text", "seconds"), [("10m", 600), ("2m", 120), ("90s", 90), ("1h", 3600), ("45", 45)]
    )
    def test_durations_have_units(self, text: str, seconds: float) -> None:
        assert parse_duration(text) == seconds

    @pytest.mark.parametrize("text", ["", "fast", "-5m", "10d", "5s"])
    def test_invalid_durations_are_refused(self, text: str) -> None:
        with pytest.raises(ArgumentTypeError):
            parse_duration(text)

    def test_a_missing_trace_file_is_refused(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            parse_options(["--trace", "/nowhere.csv"])
        assert "no such file: /nowhere.csv" in capsys.readouterr().err

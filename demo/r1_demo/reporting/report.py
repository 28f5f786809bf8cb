"""The report of a run: the result in a sentence, tables, demo.json and a chart."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from r1_demo.load.arrivals import ScheduledRequest
from r1_demo.load.load_generator import RequestOutcome
from r1_demo.load.schedule import LoadSchedule
from r1_demo.reporting.chart import draw_chart
from r1_demo.reporting.live_view import milliseconds
from r1_demo.reporting.measures import (
    ClassFigures,
    HpaComparison,
    HpaRun,
    ReplicaCost,
    SimulatedHpa,
    by_class,
    class_figures,
    compare_with_hpa,
    cost_of,
    per_second,
    quantile,
    simulate_hpa,
)
from r1_demo.reporting.observation import RunSample


@dataclass(frozen=True, slots=True)
class ResourceSettings:
    """Settings of one resource.

    `capacity`: requests/s of a replica; `down_window`: seconds; `first`: replicas at the start,
    the minimum for `hold` seconds.
    """

    name: str
    capacity: float
    utilization: float
    min_replicas: int
    max_replicas: int
    down_window: float
    first: int = 1
    hold: float = 0.0


@dataclass(frozen=True, slots=True)
class ResourceFigures:
    """Figures of one resource: requests by class, cost, and simulated HPAs beside it."""

    settings: ResourceSettings
    total: ClassFigures
    classes: list[ClassFigures]
    cost: ReplicaCost
    hpa: HpaComparison
    counts: list[float]


@dataclass(frozen=True, slots=True)
class RunReport:
    """The result of a run."""

    schedule: LoadSchedule
    resources: list[ResourceFigures]
    samples: Sequence[RunSample]
    outcomes: Sequence[RequestOutcome]
    start_seconds: float
    start_measured: bool
    forecaster_message: str

    @property
    def total(self) -> ClassFigures:
        """Return the figures of all requests."""
        return class_figures("all", self.outcomes)


def build_report(
    schedule: LoadSchedule,
    settings: Sequence[ResourceSettings],
    samples: Sequence[RunSample],
    outcomes: Sequence[RequestOutcome],
    start_seconds: float | None,
    forecaster_message: str,
) -> RunReport:
    """Return the report of a run. `start_seconds` None: no start was observed, 15 s are assumed."""
    seconds = max(1, round(schedule.seconds))
    outcomes = [*outcomes, *missing_outcomes(schedule.arrivals, outcomes)]
    start = 15.0 if start_seconds is None else start_seconds
    resources = [
        _resource_figures(one, schedule, samples, outcomes, seconds, start) for one in settings
    ]
    return RunReport(
        schedule,
        resources,
        samples,
        outcomes,
        start,
        start_seconds is not None,
        forecaster_message,
    )


def _resource_figures(
    settings: ResourceSettings,
    schedule: LoadSchedule,
    samples: Sequence[RunSample],
    outcomes: Sequence[RequestOutcome],
    seconds: int,
    start: float,
) -> ResourceFigures:
    own = [outcome for outcome in outcomes if outcome.model == settings.name]
    counts = per_second([a.at for a in schedule.arrivals if a.model == settings.name], seconds)

    def simulate(utilization: float) -> SimulatedHpa:
        return simulate_hpa(
            counts,
            settings.capacity,
            utilization,
            (settings.min_replicas, settings.max_replicas),
            start,
            settings.down_window,
            settings.first,
            settings.hold,
        )

    desired, ready = replicas_by_second(samples, settings.name, seconds, settings.first)
    cost = cost_of(desired, ready, counts, settings.capacity)
    return ResourceFigures(
        settings,
        class_figures(settings.name, own),
        by_class(own),
        cost,
        compare_with_hpa(cost, settings.utilization, simulate, counts, settings.capacity),
        counts,
    )


def result(figures: ResourceFigures) -> str:
    """Return the result for one resource in a sentence: overload, cost, and the HPA's beside them."""
    cost, hpa = figures.cost, figures.hpa
    text = (
        f"{figures.settings.name}: {cost.overload:.1%} of requests overloaded with "
        f"{cost.replica_minutes:.1f} replica-minutes. "
    )
    if hpa.equal_service is None:
        best = hpa.best_service
        text += (
            f"An HPA overloads at least {best.cost.overload:.1%}, with "
            f"{best.cost.replica_minutes:.1f} (target utilization {best.target:.0%})"
        )
    else:
        same = hpa.equal_service
        text += f"An HPA needs {same.cost.replica_minutes:.1f} for that (target utilization {same.target:.0%})"
    if hpa.equal_cost is None:
        return f"{text}; at no target utilization does it cost {cost.replica_minutes:.1f} or less."
    return (
        f"{text}; with {cost.replica_minutes:.1f} it leaves {hpa.equal_cost.cost.overload:.1%} "
        f"overloaded (target utilization {hpa.equal_cost.target:.0%})."
    )


def missing_outcomes(
    arrivals: Sequence[ScheduledRequest], outcomes: Sequence[RequestOutcome]
) -> list[RequestOutcome]:
    """Return a failed outcome for each arrival without an outcome."""
    ended = {(outcome.at, outcome.model) for outcome in outcomes}
    return [
        RequestOutcome(
            a.at, a.model, a.klass, 0, None, 0.0, 0, 0.0, "no response before the run ended"
        )
        for a in arrivals
        if (a.at, a.model) not in ended
    ]


def replicas_by_second(
    samples: Sequence[RunSample], name: str, seconds: int, first: int = 1
) -> tuple[list[int], list[int]]:
    """Return desired and ready replicas in each second: the newest sample by then."""
    desired, ready = [], []
    position, last_desired, last_ready = 0, first, first
    for second in range(seconds):
        while position < len(samples) and samples[position].at <= second:
            observed = samples[position].resources[name]
            last_desired = last_desired if observed.desired is None else observed.desired
            last_ready = last_ready if observed.ready is None else observed.ready
            position += 1
        desired.append(last_desired)
        ready.append(last_ready)
    return desired, ready


def measured_start(samples: Sequence[RunSample], names: Sequence[str]) -> float | None:
    """Return the median time in seconds from a raised desired count to that many ready replicas."""
    starts = []
    for name in names:
        open_since: dict[int, float] = {}
        before: int | None = None
        for sample in samples:
            observed = sample.resources[name]
            if observed.desired is None or observed.ready is None:
                continue
            if before is not None and observed.desired > before:
                open_since |= dict.fromkeys(range(before + 1, observed.desired + 1), sample.at)
            before = observed.desired
            for count in [c for c in open_since if c <= observed.ready]:
                starts.append(sample.at - open_since.pop(count))
            open_since = {c: at for c, at in open_since.items() if c <= observed.desired}
    return quantile(starts, 0.5)


def to_json(run_report: RunReport) -> dict[str, Any]:
    """Return the run as JSON values."""
    total, schedule = run_report.total, run_report.schedule
    everyone = by_class(run_report.outcomes)
    return {
        "trace": schedule.name,
        "source": schedule.source,
        "finishedAt": time.time(),
        "durationSeconds": schedule.seconds - schedule.lead_in,
        "leadInSeconds": schedule.lead_in,
        "compression": schedule.compression,
        "requests": total.requests,
        "completed": total.completed,
        "failed": total.failed,
        "rejected": total.rejected,
        "classes": {
            figures.name: {
                "requests": figures.requests,
                "completed": figures.completed,
                "rejected": figures.rejected,
                "failed": figures.failed,
                "ttft_p50_ms": figures.p50_ms,
                "ttft_p99_ms": figures.p99_ms,
            }
            for figures in everyone
        },
        "result": [result(resource) for resource in run_report.resources],
        "replica_minutes": sum(r.cost.replica_minutes for r in run_report.resources),
        "replica_minutes_hpa": sum(
            r.hpa.same_target.cost.replica_minutes for r in run_report.resources
        ),
        "start_seconds": run_report.start_seconds,
        "start_measured": run_report.start_measured,
        "forecaster": run_report.forecaster_message,
        "resources": {
            r.settings.name: {
                "requests_per_second_each": r.settings.capacity,
                "min_replicas": r.settings.min_replicas,
                "max_replicas": r.settings.max_replicas,
                "target_utilization": r.settings.utilization,
                "replica_minutes": r.cost.replica_minutes,
                "overload": r.cost.overload,
                "hpa": {
                    "same_target": _hpa_json(r.hpa.same_target),
                    "equal_service": _hpa_json(r.hpa.equal_service),
                    "equal_cost": _hpa_json(r.hpa.equal_cost),
                },
                "classes": [asdict(figures) for figures in r.classes],
            }
            for r in run_report.resources
        },
        "failures": sorted({o.error for o in run_report.outcomes if o.failed})[:20],
        "timeline": [sample.to_json() for sample in run_report.samples],
    }


def _hpa_json(run: HpaRun | None) -> dict[str, float] | None:
    if run is None:
        return None
    return {
        "target_utilization": run.target,
        "replica_minutes": run.cost.replica_minutes,
        "overload": run.cost.overload,
    }


def write(run_report: RunReport, folder: Path) -> tuple[Path, Path]:
    """Write demo.json and demo.png into a folder and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    document, image = folder / "demo.json", folder / "demo.png"
    document.write_text(json.dumps(to_json(run_report), allow_nan=False) + "\n")
    first = run_report.resources[0]
    draw_chart(
        image,
        run_report.schedule,
        first.settings.name,
        first.counts,
        run_report.samples,
        [o for o in run_report.outcomes if o.model == first.settings.name],
        first.hpa,
        first.settings.capacity,
        result(first),
    )
    return document, image


def print_report(console: Console, run_report: RunReport) -> None:
    """Print the result, then the tables."""
    for resource in run_report.resources:
        console.print(result(resource), style="bold", highlight=False)
    console.print(_request_table(run_report))
    console.print(_replica_table(run_report))
    source = "measured in this run" if run_report.start_measured else "assumed: no start observed"
    console.print(
        "The HPA is simulated on the same arrivals: its own rules, a metric 15 s old, the demo's "
        f"scale-down window, replicas that take {run_report.start_seconds:.0f} s to start "
        f"({source}). One second of the run is {run_report.schedule.trace_time(1)} of the trace.",
        style="dim",
        highlight=False,
    )


def _request_table(run_report: RunReport) -> Table:
    table = Table(title="Requests", title_justify="left")
    for name in ("resource", "class", "requests", "completed", "429", "failed"):
        table.add_column(name, justify="left" if name in ("resource", "class") else "right")
    table.add_column("first token p50", justify="right")
    table.add_column("p99", justify="right")
    for resource in run_report.resources:
        for figures in resource.classes:
            table.add_row(
                resource.settings.name,
                figures.name,
                str(figures.requests),
                str(figures.completed),
                str(figures.rejected),
                str(figures.failed),
                milliseconds(figures.p50_ms),
                milliseconds(figures.p99_ms),
            )
    return table


def _replica_table(run_report: RunReport) -> Table:
    table = Table(title="Replicas", title_justify="left")
    for name in (
        "resource",
        "scaling",
        "target utilization",
        "replica-minutes",
        "requests overloaded",
    ):
        table.add_column(name, justify="left" if name in ("resource", "scaling") else "right")
    for resource in run_report.resources:
        settings, hpa = resource.settings, resource.hpa
        rows: tuple[tuple[str, float | None, ReplicaCost | None], ...] = (
            ("R1Inference, measured", settings.utilization, resource.cost),
            ("HPA at equal service, simulated", *_target_and_cost(hpa.equal_service)),
            ("HPA at equal cost, simulated", *_target_and_cost(hpa.equal_cost)),
            ("HPA at the same target utilization, simulated", *_target_and_cost(hpa.same_target)),
        )
        for label, target, cost in rows:
            table.add_row(
                settings.name,
                label,
                "none fits" if target is None else f"{target:.0%}",
                "-" if cost is None else f"{cost.replica_minutes:.1f}",
                "-" if cost is None else f"{cost.overload:.1%}",
            )
    return table


def _target_and_cost(run: HpaRun | None) -> tuple[float | None, ReplicaCost | None]:
    return (None, None) if run is None else (run.target, run.cost)

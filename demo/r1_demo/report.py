"""What is told at the end: a table for people, demo.json for machines, a picture."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from r1_demo.arrivals import ScheduledRequest
from r1_demo.chart import draw_chart
from r1_demo.live_view import milliseconds
from r1_demo.load_generator import RequestOutcome
from r1_demo.measures import (
    ClassFigures,
    ReplicaCost,
    SimulatedHpa,
    by_class,
    class_figures,
    cost_of,
    per_second,
    quantile,
    simulate_hpa,
)
from r1_demo.observation import Sample
from r1_demo.schedule import LoadSchedule


@dataclass(frozen=True, slots=True)
class ResourceSettings:
    """What the play was told about one resource.

    `capacity`: requests/s of a replica; `down_window`: seconds; `first`: replicas at the
    start, which stay for `hold` seconds.
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
    """One resource: its classes, what it cost, and what reactive scaling would have cost."""

    setting: ResourceSettings
    total: ClassFigures
    classes: list[ClassFigures]
    ours: ReplicaCost
    reactive: ReplicaCost
    hpa_run: SimulatedHpa
    counts: list[float]


@dataclass(frozen=True, slots=True)
class RunReport:
    """Everything that is known at the end of a play."""

    schedule: LoadSchedule
    resources: list[ResourceFigures]
    samples: Sequence[Sample]
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
    samples: Sequence[Sample],
    outcomes: Sequence[RequestOutcome],
    start_seconds: float | None,
    forecaster_message: str,
) -> RunReport:
    """Return the figures of a play. `start_seconds` None: no start was seen, 15 s are assumed."""
    seconds = max(1, round(schedule.seconds))
    outcomes = [*outcomes, *missing_outcomes(schedule.arrivals, outcomes)]
    start = 15.0 if start_seconds is None else start_seconds
    resources = []
    for setting in settings:
        own = [outcome for outcome in outcomes if outcome.model == setting.name]
        counts = per_second([a.at for a in schedule.arrivals if a.model == setting.name], seconds)
        hpa_run = simulate_hpa(
            counts,
            setting.capacity,
            setting.utilization,
            (setting.min_replicas, setting.max_replicas),
            start,
            setting.down_window,
            setting.first,
            setting.hold,
        )
        desired, ready = replicas_by_second(samples, setting.name, seconds, setting.first)
        resources.append(
            ResourceFigures(
                setting,
                class_figures(setting.name, own),
                by_class(own),
                cost_of(desired, ready, counts, setting.capacity),
                cost_of(hpa_run.replicas, hpa_run.ready, counts, setting.capacity),
                hpa_run,
                counts,
            )
        )
    return RunReport(
        schedule, resources, samples, outcomes, start, start_seconds is not None, forecaster_message
    )


def missing_outcomes(
    arrivals: Sequence[ScheduledRequest], outcomes: Sequence[RequestOutcome]
) -> list[RequestOutcome]:
    """Return an outcome for each arrival that has none: it failed, whatever became of it."""
    ended = {(outcome.at, outcome.model) for outcome in outcomes}
    return [
        RequestOutcome(
            a.at, a.model, a.klass, 0, None, 0.0, 0, 0.0, "no answer before the play ended"
        )
        for a in arrivals
        if (a.at, a.model) not in ended
    ]


def replicas_by_second(
    samples: Sequence[Sample], name: str, seconds: int, first: int = 1
) -> tuple[list[int], list[int]]:
    """Return wanted and ready replicas in each second: the last that was seen by then."""
    desired, ready = [], []
    position, last_wanted, last_ready = 0, first, first
    for second in range(seconds):
        while position < len(samples) and samples[position].at <= second:
            seen = samples[position].resources[name]
            last_wanted = last_wanted if seen.desired is None else seen.desired
            last_ready = last_ready if seen.ready is None else seen.ready
            position += 1
        desired.append(last_wanted)
        ready.append(last_ready)
    return desired, ready


def measured_start(samples: Sequence[Sample], names: Sequence[str]) -> float | None:
    """Return the median time from a higher count wanted to that many ready, in seconds."""
    starts = []
    for name in names:
        open_since: dict[int, float] = {}
        before: int | None = None
        for sample in samples:
            seen = sample.resources[name]
            if seen.desired is None or seen.ready is None:
                continue
            if before is not None and seen.desired > before:
                open_since |= dict.fromkeys(range(before + 1, seen.desired + 1), sample.at)
            before = seen.desired
            for count in [c for c in open_since if c <= seen.ready]:
                starts.append(sample.at - open_since.pop(count))
            open_since = {c: at for c, at in open_since.items() if c <= seen.desired}
    return quantile(starts, 0.5)


def to_json(run_report: RunReport) -> dict[str, Any]:
    """Return the whole play for machines."""
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
        "replica_minutes": sum(r.ours.replica_minutes for r in run_report.resources),
        "replica_minutes_reactive": sum(r.reactive.replica_minutes for r in run_report.resources),
        "start_seconds": run_report.start_seconds,
        "start_measured": run_report.start_measured,
        "forecaster": run_report.forecaster_message,
        "resources": {
            r.setting.name: {
                "requests_per_second_each": r.setting.capacity,
                "max_replicas": r.setting.max_replicas,
                "replica_minutes": r.ours.replica_minutes,
                "replica_minutes_reactive": r.reactive.replica_minutes,
                "overload": r.ours.overload,
                "overload_reactive": r.reactive.overload,
                "classes": [asdict(figures) for figures in r.classes],
            }
            for r in run_report.resources
        },
        "failures": sorted({o.error for o in run_report.outcomes if o.failed})[:20],
        "timeline": [sample.to_json() for sample in run_report.samples],
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
        first.setting.name,
        first.counts,
        run_report.samples,
        [o for o in run_report.outcomes if o.model == first.setting.name],
        first.hpa_run,
        first.setting.capacity,
        f"{first.total.completed} of {first.total.requests} answered, "
        f"{first.ours.replica_minutes:.1f} replica-minutes, "
        f"{first.ours.overload:.1%} met too few replicas (HPA: "
        f"{first.reactive.replica_minutes:.1f}, {first.reactive.overload:.1%})",
    )
    return document, image


def print_report(console: Console, run_report: RunReport) -> None:
    """Print the tables."""
    requests = Table(title="Requests", title_justify="left")
    for name in ("resource", "class", "requests", "answered", "429", "failed"):
        requests.add_column(name, justify="left" if name in ("resource", "class") else "right")
    requests.add_column("first token p50", justify="right")
    requests.add_column("p99", justify="right")
    for resource in run_report.resources:
        for figures in resource.classes:
            requests.add_row(
                resource.setting.name,
                figures.name,
                str(figures.requests),
                str(figures.completed),
                str(figures.rejected),
                str(figures.failed),
                milliseconds(figures.p50_ms),
                milliseconds(figures.p99_ms),
            )
    console.print(requests)
    costs = Table(title="Replicas", title_justify="left")
    for name in ("resource", "scaling", "replica-minutes", "met too few replicas"):
        costs.add_column(name, justify="left" if name in ("resource", "scaling") else "right")
    for resource in run_report.resources:
        rows = (("as it ran", resource.ours), ("reactive (HPA), computed", resource.reactive))
        for label, cost in rows:
            costs.add_row(
                resource.setting.name, label, f"{cost.replica_minutes:.1f}", f"{cost.overload:.1%}"
            )
    console.print(costs)
    how = "as measured here" if run_report.start_measured else "assumed: no start was seen"
    console.print(
        f"Reactive scaling is computed on the same arrivals: HPA's own rules, a metric 15 s old, "
        f"our scale-down window, replicas that take {run_report.start_seconds:.0f} s to start ({how}). "
        f"One second of the play is {run_report.schedule.trace_time(1)} of the trace.",
        style="dim",
        highlight=False,
    )

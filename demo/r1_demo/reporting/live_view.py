"""The terminal during a run: a view that updates each second, or lines without a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from r1_demo.load.load_generator import RequestOutcome
from r1_demo.load.schedule import LoadSchedule
from r1_demo.reporting.measures import by_class
from r1_demo.reporting.observation import ResourceSample, RunSample

Show = Callable[[RunSample, Sequence[RequestOutcome]], None]
_SPARKS = " ▁▂▃▄▅▆▇█"
_RECENT_SECONDS = 30.0
_LINE_EVERY = 15.0


def clock(schedule: LoadSchedule, at: float) -> str:
    """Return the time of the trace, such as "the day 07:24"."""
    if at > schedule.seconds:
        return "the last responses"
    if schedule.season is None:
        own = at * schedule.compression
        return f"{int(own // 3600)}:{int(own % 3600 // 60):02}:{int(own % 60):02}"
    own = (at - schedule.lead_in) * schedule.compression
    day = "the day before" if own < 0 else "the day"
    own %= 86_400
    return f"{day} {int(own // 3600):02}:{int(own % 3600 // 60):02}"


def sparkline(values: Sequence[float], width: int) -> str:
    """Return values as a line of block characters, the newest on the right."""
    if not values:
        return ""
    tail = list(values)[-width:]
    highest = max(max(tail), 1e-9)
    return "".join(_SPARKS[round(value / highest * (len(_SPARKS) - 1))] for value in tail)


@contextmanager
def live_view(console: Console, schedule: LoadSchedule) -> Iterator[Show]:
    """Yield a function that shows a sample: a live view on a terminal, else a line every 15 s."""
    if not console.is_terminal:
        yield _lines(console, schedule)
        return
    with Live(console=console, refresh_per_second=2, transient=True) as live:

        def show(sample: RunSample, outcomes: Sequence[RequestOutcome]) -> None:
            live.update(render(schedule, sample, outcomes, console.width))

        yield show


def _lines(console: Console, schedule: LoadSchedule) -> Show:
    last = [float("-inf")]

    def show(sample: RunSample, outcomes: Sequence[RequestOutcome]) -> None:
        if sample.at - last[0] < _LINE_EVERY:
            return
        last[0] = sample.at
        counts = "  ".join(
            f"{name} {_count(resource.ready)}/{_count(resource.desired)} "
            f"queue {sum(resource.queued.values())} {resource.reason}"
            for name, resource in sample.resources.items()
        )
        console.print(
            f"{sample.at:6.0f} s  {clock(schedule, sample.at)}  "
            f"{_rate(schedule, sample.at):5.1f}/s  {counts}",
            highlight=False,
            soft_wrap=True,
        )

    return show


def render(
    schedule: LoadSchedule, sample: RunSample, outcomes: Sequence[RequestOutcome], width: int
) -> RenderableType:
    """Return the live view of one sample."""
    past = [schedule.live.at(second) for second in range(int(max(sample.at, 0)) + 1)]
    head = Table.grid(expand=True, padding=(0, 2))
    head.add_column(no_wrap=True)
    head.add_column(ratio=1)
    head.add_row(
        Text(f"{clock(schedule, sample.at)}", style="bold"),
        ProgressBar(total=schedule.seconds, completed=max(0.0, sample.at)),
    )
    head.add_row(
        Text(f"{_rate(schedule, sample.at):.1f} requests/s offered"),
        Text(sparkline(past, max(10, width - 40)), style="cyan"),
    )
    title = (
        f"{schedule.name}, {schedule.compression:.0f} times faster: "
        f"10 s of start-up are {schedule.trace_time(10)} of the trace"
    )
    parts: list[RenderableType] = [head, _resource_table(sample), _wait_table(sample, outcomes)]
    return Panel(Group(*parts), title=title, border_style="dim")


def _resource_table(sample: RunSample) -> RenderableType:
    table = Table(expand=True, box=None, header_style="dim")
    for name in ("resource", "ready", "desired", "HPA", "forecast (50-95 %)", "queue"):
        table.add_column(name, no_wrap=True)
    table.add_column("reason", ratio=1)
    for name, resource in sample.resources.items():
        table.add_row(
            Text(name, style="bold"),
            Text(_dots(resource), style="green"),
            _count(resource.desired),
            _count(resource.reactive),
            _band(resource),
            " ".join(f"{k} {n}" for k, n in resource.queued.items() if n) or "-",
            Text(
                f"{resource.reason}: {resource.message}" if resource.reason else "", overflow="fold"
            ),
        )
    return table


def _wait_table(sample: RunSample, outcomes: Sequence[RequestOutcome]) -> RenderableType:
    table = Table(expand=False, box=None, header_style="dim")
    for name in ("class", "last 30 s", "first token p50", "p99", "429", "failed"):
        table.add_column(name, justify="left" if name == "class" else "right")
    recent = [o for o in outcomes if o.at >= sample.at - _RECENT_SECONDS]
    for figures in by_class(recent):
        table.add_row(
            figures.name,
            str(figures.requests),
            milliseconds(figures.p50_ms),
            milliseconds(figures.p99_ms),
            str(figures.rejected),
            str(figures.failed),
        )
    return table


def milliseconds(value: float | None) -> str:
    """Return a duration in ms, or in s from 10 s on."""
    if value is None:
        return "-"
    return f"{value:.0f} ms" if value < 10_000 else f"{value / 1000:.1f} s"


def _rate(schedule: LoadSchedule, at: float) -> float:
    return schedule.live.at(at) if 0 <= at <= schedule.seconds else 0.0


def _count(value: int | None) -> str:
    return "?" if value is None else str(value)


def _dots(resource: ResourceSample) -> str:
    ready, desired = resource.ready or 0, resource.desired or 0
    return "●" * ready + "○" * max(0, desired - ready)


def _band(resource: ResourceSample) -> str:
    if not resource.band:
        return "-"
    values = [resource.band[level] for level in sorted(resource.band, key=float)]
    return f"{values[0]:.1f} to {values[-1]:.1f}/s{'' if resource.acting else ' (not acting)'}"

"""The terminal while the day is played: one picture a second, or one line where there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from r1_demo.load_generator import RequestOutcome
from r1_demo.measures import by_class
from r1_demo.observation import ResourceSample, Sample
from r1_demo.schedule import LoadSchedule

Show = Callable[[Sample, Sequence[RequestOutcome]], None]
_SPARKS = " ▁▂▃▄▅▆▇█"
_RECENT_SECONDS = 30.0
_LINE_EVERY = 15.0


def clock(schedule: LoadSchedule, at: float) -> str:
    """Return the moment on the trace's own clock, such as "the day 07:24"."""
    if at > schedule.seconds:
        return "the last answers"
    if schedule.season is None:
        own = at * schedule.compression
        return f"{int(own // 3600)}:{int(own % 3600 // 60):02}:{int(own % 60):02}"
    own = (at - schedule.lead_in) * schedule.compression
    day = "the day before" if own < 0 else "the day"
    own %= 86_400
    return f"{day} {int(own // 3600):02}:{int(own % 3600 // 60):02}"


def sparkline(values: Sequence[float], width: int) -> str:
    """Return values as a line of blocks, the newest on the right."""
    if not values:
        return ""
    tail = list(values)[-width:]
    highest = max(max(tail), 1e-9)
    return "".join(_SPARKS[round(value / highest * (len(_SPARKS) - 1))] for value in tail)


@contextmanager
def live_view(console: Console, schedule: LoadSchedule) -> Iterator[Show]:
    """Yield what shows a moment: a live picture on a terminal, a line now and then elsewhere."""
    if not console.is_terminal:
        yield _lines(console, schedule)
        return
    with Live(console=console, refresh_per_second=2, transient=True) as live:

        def show(sample: Sample, outcomes: Sequence[RequestOutcome]) -> None:
            live.update(render(schedule, sample, outcomes, console.width))

        yield show


def _lines(console: Console, schedule: LoadSchedule) -> Show:
    last = [float("-inf")]

    def show(sample: Sample, outcomes: Sequence[RequestOutcome]) -> None:
        if sample.at - last[0] < _LINE_EVERY:
            return
        last[0] = sample.at
        counts = "  ".join(
            f"{name} {_count(seen.ready)}/{_count(seen.desired)} "
            f"queue {sum(seen.queued.values())} {seen.reason}"
            for name, seen in sample.resources.items()
        )
        console.print(
            f"{sample.at:6.0f} s  {clock(schedule, sample.at)}  "
            f"{_rate(schedule, sample.at):5.1f}/s  {counts}",
            highlight=False,
            soft_wrap=True,
        )

    return show


def render(
    schedule: LoadSchedule, sample: Sample, outcomes: Sequence[RequestOutcome], width: int
) -> RenderableType:
    """Return the whole screen of one moment."""
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
        f"a start of 10 s weighs like {schedule.trace_time(10)}"
    )
    parts: list[RenderableType] = [head, _resources(sample), _waits(sample, outcomes)]
    return Panel(Group(*parts), title=title, border_style="dim")


def _resources(sample: Sample) -> RenderableType:
    table = Table(expand=True, box=None, header_style="dim")
    for name in ("resource", "ready", "wanted", "plain HPA", "expected (50-95 %)", "queue"):
        table.add_column(name, no_wrap=True)
    table.add_column("why", ratio=1)
    for name, seen in sample.resources.items():
        table.add_row(
            Text(name, style="bold"),
            Text(_dots(seen), style="green"),
            _count(seen.desired),
            _count(seen.reactive),
            _band(seen),
            " ".join(f"{k} {n}" for k, n in seen.queued.items() if n) or "-",
            Text(f"{seen.reason}: {seen.message}" if seen.reason else "", overflow="fold"),
        )
    return table


def _waits(sample: Sample, outcomes: Sequence[RequestOutcome]) -> RenderableType:
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
    """Return a duration as people write it."""
    if value is None:
        return "-"
    return f"{value:.0f} ms" if value < 10_000 else f"{value / 1000:.1f} s"


def _rate(schedule: LoadSchedule, at: float) -> float:
    return schedule.live.at(at) if 0 <= at <= schedule.seconds else 0.0


def _count(value: int | None) -> str:
    return "?" if value is None else str(value)


def _dots(seen: ResourceSample) -> str:
    ready, desired = seen.ready or 0, seen.desired or 0
    return "●" * ready + "○" * max(0, desired - ready)


def _band(seen: ResourceSample) -> str:
    if not seen.band:
        return "-"
    values = [seen.band[level] for level in sorted(seen.band, key=float)]
    return f"{values[0]:.1f} to {values[-1]:.1f}/s{'' if seen.acting else ' (not acting)'}"

"""The chart of a run: load and forecast, replicas, and time to first token over one clock.

It shows one resource, the one with priority classes. The simulated HPAs are drawn beside its
replicas. Legends stand above their axes, so that they cover no curve.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from r1_demo.load.load_generator import RequestOutcome
from r1_demo.load.schedule import LoadSchedule
from r1_demo.reporting.measures import HpaComparison, HpaRun, smoothed
from r1_demo.reporting.observation import RunSample

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, GRID, BLUE, BAND, ORANGE, GREY = (
    "#1f2933",
    "#e4e7eb",
    "#2f6fb2",
    "#9cc3ea",
    "#d9822b",
    "#9aa5b1",
)
CLASS_INK = {"Q1": "#c1272d", "Q2": "#2f6fb2", "Q3": "#8a9a5b", "-": "#3d5a80"}


def draw_chart(
    path: Path,
    schedule: LoadSchedule,
    resource: str,
    counts: Sequence[float],
    samples: Sequence[RunSample],
    outcomes: Sequence[RequestOutcome],
    hpa: HpaComparison,
    capacity: float,
    result: str,
) -> None:
    """Write the chart as PNG; `counts` are the resource's arrivals in each second."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    style: dict[str, Any] = {
        "font.size": 9,
        "font.family": "DejaVu Sans",
        "axes.edgecolor": GREY,
        "axes.labelcolor": INK,
        "axes.titlelocation": "left",
        "axes.titlesize": 10,
        "axes.titleweight": "bold",
        "text.color": INK,
        "xtick.color": INK,
        "ytick.color": INK,
    }
    with mpl.rc_context(style):  # type: ignore[arg-type]
        figure, rows = pyplot.subplots(
            3,
            1,
            figsize=(11, 8.6),
            sharex=True,
            height_ratios=(3, 2, 2.4),
            layout="constrained",
        )
        load, replicas, waits = rows
        _draw_load(load, schedule, resource, counts, samples)
        _draw_replicas(replicas, resource, samples, hpa, counts, capacity)
        _draw_waits(waits, outcomes)
        for axes in rows:
            axes.grid(color=GRID, linewidth=0.7)
            axes.set_axisbelow(True)
            axes.spines[["top", "right"]].set_visible(False)
            axes.margins(x=0)
        _draw_clock(waits, schedule, len(counts))
        for axes in rows:
            _shade(axes, schedule)
        figure.suptitle(
            f"{schedule.name} on {resource}, {schedule.compression:.0f} times faster\n",
            x=0.008,
            ha="left",
            fontsize=13,
            fontweight="bold",
        )
        # The second line of the heading, in a normal weight.
        figure.text(0.008, 0.962, result.partition(": ")[2], ha="left", va="top", fontsize=9)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)
        pyplot.close(figure)


def _draw_load(
    axes: Axes,
    schedule: LoadSchedule,
    resource: str,
    counts: Sequence[float],
    samples: Sequence[RunSample],
) -> None:
    axes.set_title("Load and forecast")
    seconds = [index + 0.5 for index in range(len(counts))]
    axes.bar(seconds, counts, width=1.0, color=GRID, label="arrivals per second")
    axes.plot(seconds, smoothed(counts, 9), color=BLUE, linewidth=1.6, label="mean of 9 s")
    # Samples without a forecast leave a hole in the band.
    none = float("nan")
    bands = [m.resources[resource].band for m in samples]
    at = [m.at for m in samples]
    if any(bands):
        axes.fill_between(
            at,
            [min(band.values(), default=none) for band in bands],
            [max(band.values(), default=none) for band in bands],
            color=BAND,
            alpha=0.45,
            linewidth=0,
            label="forecast peak over the lead time, 50-95 %",
        )
        axes.plot(
            at,
            [band.get("0.9", none) for band in bands],
            color=ORANGE,
            linewidth=1.3,
            label="90 % quantile",
        )
    axes.set_ylabel("requests/s")
    axes.set_ylim(bottom=0)
    _legend(axes)


def _draw_replicas(
    axes: Axes,
    resource: str,
    samples: Sequence[RunSample],
    hpa: HpaComparison,
    counts: Sequence[float],
    capacity: float,
) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_title("Replicas")
    at = [m.at for m in samples]
    desired = [m.resources[resource].desired or 0 for m in samples]
    ready = [m.resources[resource].ready or 0 for m in samples]
    needed = [rate / capacity for rate in smoothed(counts, 9)]
    axes.fill_between(
        range(len(needed)), needed, color=GRID, linewidth=0, label="needed at 100 %", step="mid"
    )
    service = "HPA, equal service" if hpa.equal_service else "HPA, least overload"
    runs: list[tuple[str, HpaRun, str, tuple[int, tuple[float, ...]]]] = [
        ("HPA, same target utilization", hpa.same_target, GREY, (0, (1, 1.5))),
        (service, hpa.equal_service or hpa.best_service, INK, (0, (4, 2))),
    ]
    highest = max([*desired, *ready], default=1)
    for label, run, color, dashes in runs:
        highest = max(highest, *run.run.ready)
        axes.step(
            range(len(run.run.ready)),
            run.run.ready,
            where="post",
            color=color,
            linewidth=1.2,
            linestyle=dashes,
            label=f"{label} ({run.target:.0%})",
        )
    axes.step(at, desired, where="post", color=ORANGE, linewidth=1.2, label="desired")
    axes.step(at, ready, where="post", color=BLUE, linewidth=1.8, label="ready")
    axes.set_ylabel("pods")
    axes.set_ylim(bottom=0, top=highest + 1)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(axes)


def _legend(axes: Axes, markerscale: float = 1.0) -> None:
    """Put the legend above the axes, to the right of their title."""
    axes.legend(
        loc="lower right",
        bbox_to_anchor=(1.0, 0.99),
        borderaxespad=0.2,
        frameon=False,
        ncols=6,
        fontsize=8,
        columnspacing=1.2,
        handlelength=1.8,
        markerscale=markerscale,
    )


def _draw_waits(axes: Axes, outcomes: Sequence[RequestOutcome]) -> None:
    axes.set_title("Time to first token, each request")
    for name in sorted({o.klass or "-" for o in outcomes}):
        own = [o for o in outcomes if (o.klass or "-") == name]
        served = [o for o in own if o.completed and o.first_token_ms is not None]
        axes.plot(
            [o.at for o in served],
            [max(1.0, o.first_token_ms or 0.0) for o in served],
            ".",
            markersize=3,
            alpha=0.6,
            color=CLASS_INK.get(name, INK),
            label="no class" if name == "-" else name,
        )
    refused = [o.at for o in outcomes if o.rejected]
    if refused:
        axes.plot(refused, [1.5] * len(refused), "|", color=INK, label="429")
    axes.set_yscale("log")
    axes.set_ylabel("ms")
    _legend(axes, markerscale=3)


def _draw_clock(axes: Axes, schedule: LoadSchedule, seconds: int) -> None:
    """Label the shared axis with the trace's clock, and the seconds of the run below it."""
    own = 86_400 if schedule.season is not None else seconds * schedule.compression
    step = next(s for s in (600, 1200, 3600, 10_800, 14_400, 86_400) if own / s <= 12)
    ticks, names = [], []
    first = -schedule.lead_in * schedule.compression
    mark = first - first % step if first % step == 0 else first - first % step + step
    while mark <= (seconds - schedule.lead_in) * schedule.compression:
        ticks.append(schedule.lead_in + mark / schedule.compression)
        hour, minute = divmod(int(mark % 86_400) // 60, 60)
        names.append(f"{hour:02}:{minute:02}\n{ticks[-1]:.0f} s")
        mark += step
    axes.set_xticks(ticks, names)
    axes.set_xlim(0, seconds)
    axes.set_xlabel(
        "clock of the trace; below it, seconds of the run (grey: lead-in, the day before, while the "
        "forecaster trains; orange: gaps of the trace, interpolated)"
    )


def _shade(axes: Axes, schedule: LoadSchedule) -> None:
    """Mark the lead-in, and gaps of the trace, where the load is interpolated."""
    if schedule.lead_in > 0:
        axes.axvspan(0, schedule.lead_in, color=GREY, alpha=0.12, linewidth=0)
        axes.axvline(schedule.lead_in, color=GREY, linewidth=0.8)
    live = schedule.live
    for index, measured in enumerate(live.measured):
        if not measured:
            axes.axvspan(
                index * live.step, (index + 1) * live.step, color=ORANGE, alpha=0.08, linewidth=0
            )

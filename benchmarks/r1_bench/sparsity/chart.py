"""Picture: quality lost against CPU time, one dot a technique, with the frontier."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from r1_bench.sparsity.row import SparsityRow

_KEPT, _MISSED = "#1f77b4", "#d62728"
_HEIGHTS = (6, -13, 18, -25)  # of the names beside the dots, in points
_LEAST = 0.01  # percent: smaller losses, and gains, are drawn here


def frontier(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that no other point beats in both values, by the first value. Smaller is better."""
    best: list[tuple[float, float]] = []
    for point in sorted(points):
        if not best or point[1] < best[-1][1]:
            best.append(point)
    return best


def draw(rows: Sequence[SparsityRow], path: Path, title: str) -> None:
    """Write the picture as PNG. Rows without a loss and a time are left out. Exact rows are
    hollow and no part of the frontier: their times are of workloads of their own.
    """
    figure = Figure(figsize=(10, 6), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    shown = [(row, _loss(row), row.decode_ratio) for row in rows]
    points = [
        (time, max(loss, _LEAST), row) for row, loss, time in shown if time and loss is not None
    ]
    for time, loss, row in points:
        color = _MISSED if row.missed else _KEPT
        low, high = row.interval or (loss, loss)
        ends = ([loss - min(loss, max(low, _LEAST))], [max(high, loss) - loss])
        axes.errorbar(
            time, loss, yerr=ends, fmt="o", color=color, capsize=3, linewidth=1,
            markerfacecolor="white" if row.loss is None else color,
        )  # fmt: skip
    _label(axes, [(time, loss, row.name) for time, loss, row in points])
    measured = [(time, loss) for time, loss, row in points if row.loss is not None]
    edge = frontier([(1.0, _LEAST), *measured])
    axes.step(
        *zip(*edge, strict=True), where="post", color="#7f7f7f", linestyle="--", label="frontier"
    )
    axes.plot(1.0, _LEAST, "s", color="black", label="dense float32")
    axes.plot([], [], "o", color=_KEPT, label="keeps its limits")
    axes.plot([], [], "o", color=_MISSED, label="misses a limit")
    axes.plot([], [], "o", color=_KEPT, markerfacecolor="white", label="exact, own workload")
    axes.set_yscale("log")
    axes.margins(x=0.15, y=0.08)
    axes.set_xlabel("CPU time per output token, share of the baseline (less is better)")
    axes.set_ylabel(f"perplexity lost, % (at least {_LEAST} drawn)")
    axes.set_title(title)
    axes.grid(alpha=0.25, which="both")
    axes.legend(fontsize=8, loc="upper right", frameon=False)
    figure.savefig(path)


def _loss(row: SparsityRow) -> float | None:
    if row.loss is None and row.same_text == 1:
        return 0.0
    return row.loss


def _label(axes: object, points: Sequence[tuple[float, float, str]]) -> None:
    """Names beside the dots; neighbours have different heights."""
    middle = sum(time for time, _, _ in points) / max(1, len(points))
    for number, (time, loss, name) in enumerate(sorted(points)):
        right = time > max(0.8, middle)  # the name ends at the dot instead of beyond the frame
        axes.annotate(  # type: ignore[attr-defined]
            name, (time, loss), xytext=(-5 if right else 5, _HEIGHTS[number % len(_HEIGHTS)]),
            textcoords="offset points", fontsize=8, ha="right" if right else "left",
        )  # fmt: skip

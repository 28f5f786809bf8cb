"""Chart of a leaderboard: cost against overload for every policy."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import cycle, product
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from r1_evaluation.leaderboard.scoring import Leaderboard, LeaderboardRow
from r1_evaluation.traces.scenario import PLANNED_UTILIZATION

_LOWEST = 1e-4
_COLORS = {
    "ours": "#d62728",
    "ours-no-forecast": "#ff9896",
    "hpa": "#1f77b4",
    "oracle": "#2ca02c",
    "seasonal-naive": "#9467bd",
    "threshold-0.6": "#8c564b",
}
_OTHERS = ("#7f7f7f", "#bcbd22", "#17becf", "#e377c2", "#aec7e8", "#c5b0d5", "#c49c94")
Dashes = str | tuple[int, tuple[int, ...]]
_LINES: tuple[Dashes, ...] = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))


def draw(board: Leaderboard, path: Path) -> None:
    """Write the chart as PNG. Overloads below 0.01 % are drawn at 0.01 %."""
    figure = Figure(figsize=(11, 6), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    look = looks(row.name for row in board.policies)
    for row in board.policies:
        line, color = look[row.name]
        points = sorted(row.curve, key=lambda point: point.target)
        cost = [point.cost for point in points]
        overload = [max(point.overload, _LOWEST) for point in points]
        width = 2.4 if row.name == "ours" else 1.4
        axes.plot(
            cost, overload, linestyle=line, color=color, linewidth=width, alpha=0.9,
            label=_label(row),
        )  # fmt: skip
        planned = next(point for point in points if point.target == PLANNED_UTILIZATION)
        axes.plot(planned.cost, max(planned.overload, _LOWEST), "o", color=color, markersize=5)
    axes.axhline(board.max_overload, color="black", linestyle="--", linewidth=1)
    axes.text(
        0.995, board.max_overload * 1.06, f"SLO {board.max_overload:.1%}",
        transform=axes.get_yaxis_transform(), ha="right", fontsize=8,
    )  # fmt: skip
    axes.set_yscale("log")
    axes.set_ylim(_LOWEST * 0.8, 1.0)
    axes.set_xlim(0.9, min(3.0, max(2.2, *(_cost(row) * 1.1 for row in board.policies))))
    axes.set_xlabel("replica-hours, 1 = clairvoyant minimum")
    axes.set_ylabel("share of requests overloaded")
    axes.set_title(f"{board.trace}, start-up {board.start_s:g} s (dots: target 0.7)")
    axes.grid(alpha=0.25, which="both")
    small = 8 if len(board.policies) <= 14 else 6
    axes.legend(
        fontsize=small, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False,
        title="cost at the SLO", title_fontsize=small,
    )  # fmt: skip
    figure.savefig(path)


def looks(names: Iterable[str]) -> dict[str, tuple[Dashes, str]]:
    """Return line style and color of each policy; the common ones have fixed colors."""
    others = cycle(product(_LINES, _OTHERS))
    return {name: ("-", _COLORS[name]) if name in _COLORS else next(others) for name in names}


def _cost(row: LeaderboardRow) -> float:
    return row.cost_at_slo or 0.0


def _label(row: LeaderboardRow) -> str:
    return f"{row.name} {row.cost_at_slo:.2f}" if row.cost_at_slo else f"{row.name}, never"

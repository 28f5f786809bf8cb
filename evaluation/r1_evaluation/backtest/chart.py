"""Chart of a replay: load in replicas, and the counts of ours and of an HPA."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from r1_evaluation.backtest.backtest import Backtest
from r1_evaluation.traces.scenario import STEP_SECONDS


def draw(result: Backtest, path: Path) -> None:
    """Write the chart as PNG; days count from the start of the test window."""
    scenario, replay = result.scenario, result.replay
    days = (
        (np.arange(len(replay.counts)) + scenario.begin - scenario.test_from)
        * STEP_SECONDS
        / 86_400
    )
    figure = Figure(figsize=(11, 4.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    demand_in_replicas = scenario.demand[scenario.decision_steps] / scenario.capacity
    axes.fill_between(
        days, demand_in_replicas, color="#c5ccd3", linewidth=0, label="load in replicas at 100 %"
    )
    axes.step(days, replay.hpa, where="post", color="#1f77b4", linewidth=1.0,
              label="HPA at the same target utilization")  # fmt: skip
    axes.step(days, replay.counts, where="post", color="#d62728", linewidth=1.2, label="ours")
    axes.set_xlabel("days")
    axes.set_ylabel("replicas")
    axes.set_xlim(float(days[0]), float(days[-1]))
    axes.set_ylim(bottom=0)
    use = result.candidate.policy.target_utilization
    axes.set_title(f"{result.candidate.name}, as configured (target utilization {use:.0%})")
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, frameon=False)
    figure.savefig(path)

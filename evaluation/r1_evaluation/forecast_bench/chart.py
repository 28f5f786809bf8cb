"""The scored days as a picture: what came, what ours said, and its 0.9 band."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from r1_evaluation.forecast_bench.score import OURS, Scores

DAY = 86_400.0


def draw(scores: Scores, title: str, path: Path) -> None:
    """Write a PNG with one panel a horizon."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(
        len(scores.horizons), 1, figsize=(11, 3.2 * len(scores.horizons)), squeeze=False
    )
    for panel, (name, scored) in zip(panels[:, 0], scores.horizons.items(), strict=True):
        days = (scored.times - scored.times[0]) / DAY
        # No line across a gap: there is no data.
        breaks = np.flatnonzero(np.diff(days) > 3 * np.median(np.diff(days))) + 1
        ours = np.insert(scored.issued[OURS], breaks, np.nan, axis=0)
        actual = np.insert(scored.actual, breaks, np.nan)
        at = np.insert(days, breaks, days[breaks])
        panel.fill_between(at, ours[:, 0], ours[:, 1], color="#9ecae1", label="ours, .5 to .9")
        panel.plot(at, actual, color="black", linewidth=0.9, label="what came")
        panel.plot(at, ours[:, 0], color="#d95f02", linewidth=0.9, label="ours, .5")
        figures = scored.figures[OURS]
        error, covered = figures["mae_rel"], figures["coverage90"]
        said = f"MAE {error:.2f} of the baseline's" if error is not None else "no baseline error"
        panel.set_title(f"{name} ahead: {said}, {covered or 0:.0%} at or below the .9", fontsize=10)
        panel.set_ylabel("requests per minute")
        panel.set_ylim(bottom=0)
        panel.margins(x=0.01)
    panels[0, 0].legend(loc="upper left", fontsize=8, ncols=3)
    panels[-1, 0].set_xlabel("days of the tested window")
    figure.suptitle(title)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)

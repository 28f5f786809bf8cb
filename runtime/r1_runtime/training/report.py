"""Loss curve of one or more consecutive training runs, as JSON and as a figure.

python -m r1_runtime.training.report --out docs/demo-model RUN1 RUN2
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def read_curve(runs: list[Path]) -> dict[str, Any]:
    """Training and held-out losses by training tokens, over consecutive runs."""
    training: list[list[float]] = []
    held_out: list[list[float]] = []
    before = seconds = 0.0
    for run in runs:
        lines = (run / "log.jsonl").read_text(encoding="utf-8").splitlines()
        records = [json.loads(line) for line in lines]
        for record in records:
            training.append([before + record["tokens"], record["loss"]])
            if "held_out" in record:
                held_out.append([before + record["tokens"], record["held_out"]])
        before += records[-1]["tokens"]
        seconds += records[-1]["seconds"]
    summary = runs[-1] / "summary.json"
    return {
        "tokens": before,
        "minutes": round(seconds / 60, 1),
        "steps": len(training),
        "final": json.loads(summary.read_text(encoding="utf-8")) if summary.is_file() else None,
        "training_loss": training,
        "held_out_loss": held_out,
    }


def draw(curve: dict[str, Any], path: Path) -> None:
    """Plot the losses in nats per token over training tokens."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), constrained_layout=True)
    axes.plot(*zip(*curve["training_loss"], strict=True), linewidth=0.7, label="training batches")
    if curve["held_out_loss"]:
        axes.plot(*zip(*curve["held_out_loss"], strict=True), "o-", label="held-out pages (part)")
    axes.set(
        xlabel="training tokens", ylabel="loss, nats per token", title="The demo model's training"
    )
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+", help="folders of consecutive runs")
    parser.add_argument("--out", type=Path, required=True, help="name of the two files, no suffix")
    options = parser.parse_args()
    curve = read_curve(options.runs)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.with_suffix(".json").write_text(json.dumps(curve) + "\n", encoding="utf-8")
    draw(curve, options.out.with_suffix(".png"))


if __name__ == "__main__":
    main()

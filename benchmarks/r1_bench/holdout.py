"""Holdout clients: the forecaster's bars, and cost at equal service.

Models, corrections and scaling rules were chosen on the public traces and on other clients of the
same file; these six clients were not used. A client is a harder load than a service, whose
clients average out. R1_TRACES names the folder of the traces.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from r1_bench.forecast import BANDS, FAR, NEAR, horizon_rows, progress
from r1_bench.leaderboard import STARTS, Cell, rows_of, safety_table, score_cell
from r1_bench.leaderboard import table as costs_table
from r1_bench.rows import BenchmarkRow, write
from r1_evaluation.forecast_bench.score import MODELS, OPTIONAL, OURS, Scored, score_series
from r1_evaluation.forecast_bench.series import series_of
from r1_evaluation.traces.readers import read_trace

FILE = "servegen_clients_10min.parquet"
HOLDOUT_CLIENTS = (
    *("qwen_m-small/14", "qwen_m-small/26", "qwen_m-small/11"),
    *("qwen_m-large/142", "qwen_m-large/112", "qwen_m-large/21"),
)
FOLDER = Path("out") / "holdout"
FORECASTS, COSTS = "F", "S1"
"""Values of `--only` besides the name of a client."""
Scores = Mapping[str, Mapping[str, Scored]]
"""Horizons by client."""


def score(folder: Path, clients: Sequence[str]) -> dict[str, Mapping[str, Scored]]:
    """Score the forecaster on each client; reports a client without a score on stderr."""
    models = tuple(name for name in MODELS if name not in OPTIONAL)
    by_client: dict[str, Mapping[str, Scored]] = {}
    for client in clients:
        scores = score_series(
            series_of(read_trace(folder / FILE, client)), models, progress(client)
        )
        for note in scores.notes:
            progress(client)(note)
        by_client[client] = scores.horizons
    return by_client


def score_costs(folder: Path, clients: Sequence[str]) -> list[Cell]:
    """Score the policies on each client at each start-up time."""
    cells = []
    for client in clients:
        for start in STARTS:
            cell = score_cell(folder, (FILE, client, True, start))
            cells.append(replace(cell, name=client))
            progress(client)(f"start-up {start:g} s: scored")
    return cells


def forecasts_table(scores: Scores) -> str:
    """Return Markdown: by client and horizon the error and the shares below .9 and .95.

    Bold is outside its band; a horizon that could not be scored is a dash.
    """
    horizons = (*NEAR, FAR)
    lines = [
        "| client | " + " | ".join(f"{horizon} | .9 | .95" for horizon in horizons) + " |",
        "|---" * (1 + 3 * len(horizons)) + "|",
    ]
    for client, scored in scores.items():
        fields = [client]
        for horizon in horizons:
            mine = scored[horizon].figures[OURS] if horizon in scored else {}
            error = mine.get("mae_rel")
            fields.append("-" if error is None else f"{error:.3f}")
            for figure, level, most in BANDS:
                share = mine.get(figure)
                outside = share is not None and round(abs(share - level), 9) > most
                shown = "-" if share is None else f"{share:.3f}"
                fields.append(f"**{shown}**" if outside else shown)
        lines.append("| " + " | ".join(fields) + " |")
    return "\n".join(lines)


def main() -> int:
    """Run the benchmark; its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m r1_bench.holdout",
        description="Six clients of ServeGen that no choice was made on: error and "
        "coverage of the forecaster, and cost at equal service beside a tuned HPA, with start-ups "
        "of 60, 120 and 300 s. R1_TRACES names the folder of the traces.",
    )
    parser.add_argument(
        "--only", default="", metavar="PART",
        help="clients whose name contains PART; F: forecasts of all alone; S1: costs of all alone",
    )  # fmt: skip
    only = parser.parse_args().only
    given = os.environ.get("R1_TRACES", "")
    if not given or not (Path(given) / FILE).is_file():
        print(f"set R1_TRACES to a folder that holds {FILE}", file=sys.stderr)
        return 3
    part = only in (FORECASTS, COSTS)
    clients = [client for client in HOLDOUT_CLIENTS if part or only in client]
    if not clients:
        print(f"--only {only}: none of {', '.join(HOLDOUT_CLIENTS)}, F or S1", file=sys.stderr)
        return 2
    FOLDER.mkdir(parents=True, exist_ok=True)
    rows: list[BenchmarkRow] = []
    if only != COSTS:
        scores = score(Path(given), clients)
        rows += [row for name, scored in scores.items() for row in horizon_rows(name, scored)]
        (FOLDER / "forecasts.md").write_text(forecasts_table(scores) + "\n")
    if only != FORECASTS:
        cells = score_costs(Path(given), clients)
        rows += [row for cell in cells for row in rows_of(cell)]
        (FOLDER / "costs.md").write_text(costs_table(cells) + "\n")
        (FOLDER / "safety.md").write_text(safety_table(cells) + "\n")
    write("holdout", rows)
    return 0 if all(row.ok is not False for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())

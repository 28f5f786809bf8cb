"""Cost at equal service on recorded load: ours beside a HorizontalPodAutoscaler, per start-up time.

Traces are data of their own and not part of the project: R1_TRACES names the folder that holds
them. Without it there is nothing to measure, and the benchmark says so.
"""

import os
import sys
from pathlib import Path

from r1_bench.rows import Row, write
from r1_board.board import play
from r1_board.policies import Bench
from r1_board.report import write as write_report
from r1_board.world import world_of
from r1_demo.traces import read_trace

STARTS = (60.0, 120.0, 300.0)
BARS = {60.0: 1.00, 120.0: 0.97, 300.0: 0.93}
"""What ours may cost at equal service relative to HPA on the LLM services, by start-up time."""
EVERYWHERE = 1.02
PLANNED_COST = 1.10
TRACES: tuple[tuple[str, str | None, bool], ...] = (
    ("servegen_qwen_m-large_1min_semi.parquet", None, True),
    ("servegen_qwen_m-small_1min_semi.parquet", None, True),
    ("servegen_qwen_m-large_10min.csv.gz", None, True),
    ("servegen_qwen_m-small_10min.csv.gz", None, True),
    ("wc98_may11-jun20_1min.parquet", None, False),
    ("nab_elb_5min.csv.gz", None, False),
    ("nab_nyc_taxi_30min.csv.gz", None, False),
    ("nab_tweets_5min.parquet", "AAPL", False),
    ("nab_tweets_5min.parquet", "FB", False),
    ("nab_tweets_5min.parquet", "KO", False),
    ("burstgpt1_hourly_days8-37.csv.gz", None, False),
)
"""File, series and whether it is an LLM service that the stricter bars are for."""
POLICIES = ("ours", "ours-no-forecast", "hpa", "seasonal-naive", "oracle")


def rows_of(folder: Path, file: str, series: str | None, is_llm: bool) -> list[Row]:
    """Play one trace at every start-up time."""
    rows = []
    trace = read_trace(folder / file, series)
    name = trace.name if series is None else f"{trace.name} {series}"
    for start in STARTS:
        print(f"{name}, {start:g} s ...", file=sys.stderr)
        board = play(Bench(world_of(trace, start)), start, POLICIES)
        write_report(board, Path("out") / "leaderboard")
        by_name = {row.name: row for row in board.policies}
        ours, hpa = by_name["ours"], by_name["hpa"]
        what = f"{name}, {start:g} s"
        if ours.cost_at_slo is not None:
            bar = (BARS[start] if is_llm else EVERYWHERE) if hpa.cost_at_slo else None
            rows.append(
                Row(f"cost at SLO, {what}", "x min", ours.cost_at_slo, "hpa", hpa.cost_at_slo, bar)
            )
        rows.append(
            Row(
                f"cost at .7, {what}", "x min", ours.cost_at_u07, "hpa", hpa.cost_at_u07,
                PLANNED_COST,
            )
        )  # fmt: skip
        rows.append(
            Row(
                f"overload at .7, {what}", "%", 100 * ours.overload_at_u07, "hpa",
                100 * hpa.overload_at_u07, 1.0 if hpa.overload_at_u07 else None,
            )
        )  # fmt: skip
    return rows


def run(folder: Path) -> list[Row]:
    """All public traces that are there."""
    rows = []
    for file, series, is_llm in TRACES:
        if (folder / file).is_file():
            rows += rows_of(folder, file, series, is_llm)
        else:
            print(f"{file} is not in {folder}: left out", file=sys.stderr)
    return rows


if __name__ == "__main__":
    given = os.environ.get("R1_TRACES", "")
    if not Path(given).is_dir() or not given:
        print("set R1_TRACES to the folder that holds the traces", file=sys.stderr)
        sys.exit(3)
    write("leaderboard", run(Path(given)))

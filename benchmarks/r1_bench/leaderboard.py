"""Cost at equal service on recorded load: ours beside an HPA, per start-up time.

R1_TRACES names the folder of the traces, which are not part of the project; without it the
benchmark exits with a message. One process per core scores traces and start-up times. The results
are also written as the tables of the docs: `bars.md`, and `safety.md` with the cost of a missing
forecast and of forecasts wrong by ten at a target of 0.7.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from r1_bench.rows import BenchmarkRow, write

STARTS = (60.0, 120.0, 300.0)
BARS = {60.0: 1.00, 120.0: 0.97, 300.0: 0.93}
"""Upper bounds of our cost relative to the HPA at equal service on LLM services, by start-up time."""
EVERYWHERE = 1.02
PLANNED_COST = 1.10
WRONG_FORECAST_COST, WRONG_FORECAST_OVERLOAD = 2.0, 1.1
"""Upper bounds of cost and overload with a missing or wrong forecast at a target of 0.7, relative to the HPA."""
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
"""File, series, and whether it is an LLM service, for which the stricter bars apply."""
POLICIES = ("ours", "ours-no-forecast", "hpa", "seasonal-naive", "oracle")
FOLDER = Path("out") / "leaderboard"
DEAD, WRONG_BY = "dead", (0.1, 10.0)
_HEADS = (
    *("trace", "start", "ours", "ours-no-forecast", "seasonal-naive", "oracle", "hpa"),
    *("bar", "", "tuned on 1st half: ours", "hpa"),
    *("overload at .7: ours / hpa", "cost at .7: ours / hpa"),
)


@dataclass(frozen=True, slots=True)
class PolicyResult:
    """Result of a policy: cost at the SLO (None: at no target), and at a target of 0.7."""

    cost: float | None
    planned_cost: float
    planned_overload: float
    before: tuple[float, float] | None
    """cost and overload with the target tuned on the window's first half"""
    actions_per_hour: float


@dataclass(frozen=True, slots=True)
class Cell:
    """Results of one trace with one start-up time."""

    name: str
    start: float
    is_llm: bool
    results: dict[str, PolicyResult]
    wrong_forecast: dict[str, tuple[float, float]]
    """cost and overload at a target of .7 with a forecast that is wrong by a factor"""

    @property
    def bar(self) -> float:
        """The bar of ours relative to the HPA."""
        return BARS[self.start] if self.is_llm else EVERYWHERE


def score_cell(folder: Path, work: tuple[str, str | None, bool, float]) -> Cell:
    """Score one trace with one start-up time; charts go to `FOLDER`."""
    # The forecaster's libraries read this when they load, and each process has one core.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from r1_evaluation.leaderboard.report import write as write_report
    from r1_evaluation.leaderboard.scoring import score_policies
    from r1_evaluation.policies.inputs import PolicyInputs
    from r1_evaluation.policies.production import ours_with_wrong_forecast
    from r1_evaluation.simulator.clairvoyant import least_paid
    from r1_evaluation.simulator.fluid import service_outcome, serving_counts
    from r1_evaluation.traces.readers import read_trace
    from r1_evaluation.traces.scenario import PLANNED_UTILIZATION, scenario_of

    file, series, is_llm, start = work
    trace = read_trace(folder / file, series)
    name = trace.name if series is None else f"{trace.name} {series}"
    inputs = PolicyInputs(scenario_of(trace, start))
    board = replace(score_policies(inputs, start, POLICIES), trace=name)
    write_report(board, FOLDER)
    results = {
        row.name: PolicyResult(
            row.cost_at_slo,
            row.cost_at_u07,
            row.overload_at_u07,
            (row.tuned_on_first_half.cost, row.tuned_on_first_half.overload)
            if row.tuned_on_first_half
            else None,
            row.actions_per_hour,
        )
        for row in board.policies
    }
    alone = results["ours-no-forecast"]
    wrong = {DEAD: (alone.planned_cost, alone.planned_overload)}
    for factor in WRONG_BY:
        counts = ours_with_wrong_forecast(inputs, PLANNED_UTILIZATION, factor)
        end = service_outcome(
            inputs.scenario, counts, serving_counts(counts, inputs.scenario.start_steps)
        )
        wrong[f"x {factor:g}"] = (end.paid / least_paid(inputs.scenario), end.overload)
    return Cell(name, start, is_llm, results, wrong)


def rows_of(cell: Cell) -> list[BenchmarkRow]:
    """The cell's rows: cost at the SLO, and cost and overload at .7, beside HPA's."""
    ours, hpa = cell.results["ours"], cell.results["hpa"]
    what = f"{cell.name}, {cell.start:g} s"
    planned_hpa = 100 * hpa.planned_overload
    rows = []
    if ours.cost is not None:
        bar = cell.bar if hpa.cost else None
        rows.append(BenchmarkRow(f"cost at SLO, {what}", "x min", ours.cost, "hpa", hpa.cost, bar))
    rows.append(
        BenchmarkRow(
            f"cost at .7, {what}", "x min", ours.planned_cost, "hpa", hpa.planned_cost, PLANNED_COST
        )
    )
    rows.append(
        BenchmarkRow(f"overload at .7, {what}", "%", 100 * ours.planned_overload, "hpa", planned_hpa,
            1.0 if planned_hpa else 0.0)
    )  # fmt: skip
    for how, (cost, overload) in cell.wrong_forecast.items():
        about = f"at .7, forecast {how}, {what}"
        rows.append(
            BenchmarkRow(
                f"cost {about}", "x min", cost, "hpa", hpa.planned_cost, WRONG_FORECAST_COST
            )
        )
        rows.append(
            BenchmarkRow(f"overload {about}", "%", 100 * overload, "hpa", planned_hpa,
                WRONG_FORECAST_OVERLOAD if planned_hpa else 0.0)
        )  # fmt: skip
    return rows


def table(cells: Sequence[Cell]) -> str:
    """The cells as Markdown: costs at the SLO, in brackets relative to the HPA, and the bars."""
    lines = ["| " + " | ".join(_HEADS) + " |", "|---" * len(_HEADS) + "|"]
    for cell in cells:
        hpa, ours = cell.results["hpa"], cell.results["ours"]
        fields = [
            cell.name,
            f"{cell.start:g} s",
            *(_relative(cell.results[name].cost, hpa.cost) for name in _HEADS[2:6]),
            _figure(hpa.cost),
            f"{cell.bar:.2f}",
            _verdict(cell),
            _before(ours.before),
            _before(hpa.before),
            f"{100 * ours.planned_overload:.2f} / {100 * hpa.planned_overload:.2f} %",
            f"{ours.planned_cost / hpa.planned_cost:.2f}",
        ]
        lines.append("| " + " | ".join(fields) + " |")
    return "\n".join(lines)


def safety_table(cells: Sequence[Cell]) -> str:
    """The cells as Markdown: missing and wrong forecasts at a target of 0.7, relative to the HPA.

    Bold is over its bar; overload is in percent, because the HPA often has none.
    """
    kinds = (DEAD, *(f"x {factor:g}" for factor in WRONG_BY))
    heads = [f"{kind}: cost | overload" for kind in kinds]
    lines = [
        "| trace | start | hpa: overload | " + " | ".join(heads) + " |",
        "|---" * (3 + 2 * len(kinds)) + "|",
    ]
    for cell in cells:
        hpa = cell.results["hpa"]
        fields = [cell.name, f"{cell.start:g} s", f"{100 * hpa.planned_overload:.3f} %"]
        for kind in kinds:
            cost, overload = cell.wrong_forecast[kind]
            ratio = cost / hpa.planned_cost
            most = WRONG_FORECAST_OVERLOAD * hpa.planned_overload
            fields.append(_marked(f"{ratio:.2f}", broken=ratio > WRONG_FORECAST_COST))
            fields.append(_marked(f"{100 * overload:.3f} %", broken=overload > most + 1e-12))
        lines.append("| " + " | ".join(fields) + " |")
    return "\n".join(lines)


def _marked(text: str, *, broken: bool) -> str:
    return f"**{text}**" if broken else text


def _verdict(cell: Cell) -> str:
    ours, hpa = cell.results["ours"].cost, cell.results["hpa"].cost
    if hpa is None:
        return "-" if ours is None else "only ours meets it"
    return "holds" if ours is not None and ours / hpa <= cell.bar else "**misses**"


def _figure(cost: float | None) -> str:
    return "never" if cost is None else f"{cost:.2f}"


def _relative(cost: float | None, peer: float | None) -> str:
    return _figure(cost) if cost is None or peer is None else f"{cost:.2f} ({cost / peer:.3f})"


def _before(figures: tuple[float, float] | None) -> str:
    return "never" if figures is None else f"{figures[0]:.2f} at {100 * figures[1]:.2f} %"


def run(folder: Path, only: str = "", processes: int | None = None) -> list[Cell]:
    """Score all public traces in the folder whose file or series contains `only`."""
    work = []
    for file, series, is_llm in TRACES:
        if only not in f"{file} {series}":
            continue
        if not (folder / file).is_file():
            print(f"skipping {file}: it is not in {folder}", file=sys.stderr)
            continue
        work += [(file, series, is_llm, start) for start in STARTS]
    cells = []
    # Spawned: the thread state of torch does not survive a fork.
    with ProcessPoolExecutor(processes or os.cpu_count(), get_context("spawn")) as pool:
        for cell in pool.map(partial(score_cell, folder), work):
            print(f"{cell.name}, start-up {cell.start:g} s: scored", file=sys.stderr, flush=True)
            cells.append(cell)
    return cells


def main() -> int:
    """Run over the folder in `R1_TRACES`; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m r1_bench.leaderboard", description=__doc__)
    parser.add_argument("--only", default="", help="traces whose file or series contains this text")
    options = parser.parse_args()
    given = os.environ.get("R1_TRACES", "")
    if not given or not Path(given).is_dir():
        print("set R1_TRACES to the folder of the traces", file=sys.stderr)
        return 3
    cells = run(Path(given), options.only)
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "bars.md").write_text(table(cells) + "\n")
    (FOLDER / "safety.md").write_text(safety_table(cells) + "\n")
    rows = [row for cell in cells for row in rows_of(cell)]
    write("leaderboard", rows)
    return 0 if all(row.ok is not False for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())

"""`python -m r1_evaluation.leaderboard.bound`: lower bound on cost with headroom chosen in hindsight."""

from __future__ import annotations

import json
import math
import sys
from argparse import RawDescriptionHelpFormatter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from r1_evaluation.leaderboard.command import FAILED, NOT_FOUND, OK, Parser, failed, seconds
from r1_evaluation.leaderboard.hindsight import Bounds, hindsight_bounds
from r1_evaluation.traces.load import UnreadableTrace
from r1_evaluation.traces.readers import read_trace
from r1_evaluation.traces.scenario import scenario_of

DESCRIPTION = """\
Cost at the SLO (at most 0.5 % of requests overloaded) of a policy whose headroom is chosen in
hindsight for each stretch of time. The policy scales by the current demand and by the highest of
the last hour, and does not know when demand jumps. Beside it: the cost of an HPA at its best target
in steps of 0.05, as on the leaderboard, and of 0.0125.
"""
EPILOG = """\
examples:
  python -m r1_evaluation.leaderboard.bound --trace load.csv.gz --start 300
  python -m r1_evaluation.leaderboard.bound --trace many.parquet --series chat --json

files are those of r1 leaderboard. exit codes: 0 done, 1 failed, 2 used wrongly, 3 not found
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit code."""
    parser = Parser("python -m r1_evaluation.leaderboard.bound", None, DESCRIPTION, EPILOG,
                    formatter_class=RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--trace", type=Path, required=True, metavar="FILE", help="recorded load")
    parser.add_argument("--series", metavar="NAME", help="series to use in a file with several")
    parser.add_argument(
        "--start", type=seconds, default=300.0, metavar="SECONDS",
        help="start-up time of a replica (300)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")
    try:
        options = parser.parse_args(arguments)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else FAILED
    if not options.trace.is_file():
        return failed(options.json, f"{options.trace}: no such file", NOT_FOUND)
    try:
        scenario = scenario_of(read_trace(options.trace, options.series), options.start)
    except UnreadableTrace as unreadable:
        return failed(options.json, str(unreadable), FAILED)
    except (OSError, EOFError, ValueError) as broken:
        return failed(options.json, f"{options.trace} cannot be read: {broken}", FAILED)
    print(f"{scenario.name}: a minute or two ...", file=sys.stderr)
    found = hindsight_bounds(scenario)
    print(json.dumps(to_json(found)) if options.json else table(found))
    return OK


def to_json(found: Bounds) -> dict[str, object]:
    """The bounds as `--json` prints them; `hours` null: one stretch for the whole window."""
    rows = [{**asdict(row), "hours": _finite(row.hours)} for row in found.bounds]
    return {**asdict(found), "bounds": rows}


def table(found: Bounds) -> str:
    """The bounds in columns, relative to HPA at its best target of either grid."""
    hpa = f"HPA {_figure(found.hpa)} on the board's targets, {_figure(found.hpa_fine)} on fine ones"
    lines = [
        f"{found.trace}, start-up {found.start_s:g} s: {hpa}",
        "",
        "headroom chosen for     cost at SLO  vs hpa  vs hpa, fine",
    ]
    for row in found.bounds:
        what = "the whole window" if math.isinf(row.hours) else f"every {row.hours:g} h"
        against = (_ratio(row.cost, found.hpa), _ratio(row.cost, found.hpa_fine))
        lines.append(f"{what:22}  {_figure(row.cost):>11}  {against[0]:>6}  {against[1]:>12}")
    return "\n".join(lines)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _figure(value: float | None) -> str:
    return "never" if value is None else f"{value:.3f}"


def _ratio(value: float | None, base: float | None) -> str:
    return "-" if value is None or base is None else f"{value / base:.3f}"


if __name__ == "__main__":
    sys.exit(main())

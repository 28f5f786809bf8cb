"""`r1 leaderboard`: score scaling policies on a recorded load."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from r1_evaluation.leaderboard import report
from r1_evaluation.leaderboard.scoring import FINE_TARGETS, TARGETS, score_policies
from r1_evaluation.policies.inputs import PolicyInputs
from r1_evaluation.policies.registry import POLICIES
from r1_evaluation.traces.load import UnreadableTrace
from r1_evaluation.traces.readers import read_trace
from r1_evaluation.traces.scenario import days_of, scenario_of

OK, FAILED, USAGE, NOT_FOUND = 0, 1, 2, 3
DEFAULT = (
    "ours",
    "ours-no-forecast",
    "hpa",
    "last-value",
    "seasonal-naive",
    "threshold-0.6",
    "oracle",
)

DESCRIPTION = """\
Replays a recorded load through scaling policies and compares their costs at the same service level:
at most 0.5 % of requests may arrive while demand exceeds the capacity of the ready replicas.
`ours` is the operator's decision code with its forecaster, `oracle` the same with a perfect forecast
over the start-up time, `hpa` the rules of autoscaling/v2.
"""
EPILOG = f"""\
examples:
  r1 leaderboard --trace load.csv.gz                       the usual policies, 60 s to start
  r1 leaderboard --trace load.parquet --start 300 --json   for machines
  r1 leaderboard --trace many.parquet --series chat --out board
  r1 leaderboard --trace load.csv --policies all
  r1 leaderboard --trace load.csv --days 0:9 --fine        the first nine days, finer targets

a trace is a .csv, .csv.gz or .parquet file with timestamp_s and requests_per_minute (equal
buckets; a gap column or active_clients marks buckets without data), or with timestamp_s,
prompt_tokens and output_tokens (one row per request). A series column holds several series in one file.

policies: {", ".join(POLICIES)}
dynamo-arima, dynamo-prophet and their hybrids run Dynamo's own package. It is installed on first use,
outside this folder. Days of load take minutes; results are cached.
exit codes: 0 done, 1 failed, 2 used wrongly, 3 not found
"""


class Parser(argparse.ArgumentParser):
    """A parser whose errors take one line."""

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {message}\nTry: {self.prog} --help", file=sys.stderr)
        raise SystemExit(USAGE)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = Parser(
        prog="r1 leaderboard",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--trace", type=Path, required=True, metavar="FILE", help="recorded load")
    parser.add_argument("--series", metavar="NAME", help="series to use in a file with several")
    parser.add_argument(
        "--start", type=seconds, default=60.0, metavar="SECONDS",
        help="start-up time of a replica (60)",
    )  # fmt: skip
    parser.add_argument(
        "--policies", type=_names, default=DEFAULT, metavar="NAME,...",
        help="policies, or all (" + ",".join(DEFAULT) + ")",
    )  # fmt: skip
    parser.add_argument(
        "--seeds", type=_count, default=0, metavar="N",
        help="draw start-up times from a measured distribution, N times (0: all equal)",
    )  # fmt: skip
    parser.add_argument(
        "--days", type=_days, metavar="FROM:TO",
        help="use the trace between these days, counted from its start",
    )  # fmt: skip
    parser.add_argument(
        "--fine", action="store_true", help="targets in steps of 0.0125 instead of 0.05"
    )
    parser.add_argument(
        "--quantile", type=_percent, metavar="PERCENT",
        help="quantilePercent of ours, 50 to 95 (default: the newsvendor quantile)",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="write Markdown and a chart to this folder"
    )
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit code."""
    try:
        options = build_parser().parse_args(arguments)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else FAILED
    if not options.trace.is_file():
        return failed(options.json, f"{options.trace}: no such file", NOT_FOUND)
    try:
        trace = read_trace(options.trace, options.series)
        if options.days is not None:
            trace = days_of(trace, *options.days)
        scenario = scenario_of(trace, options.start)
    except UnreadableTrace as unreadable:
        return failed(options.json, str(unreadable), FAILED)
    except (OSError, EOFError, ValueError) as broken:
        return failed(options.json, f"{options.trace} cannot be read: {broken}", FAILED)
    board = score_policies(
        PolicyInputs(scenario, quantile=options.quantile),
        options.start,
        options.policies,
        options.seeds,
        lambda name: print(f"{scenario.name}: {name} ...", file=sys.stderr),
        lambda name, reason: print(f"{scenario.name}: skipping {name}: {reason}", file=sys.stderr),
        FINE_TARGETS if options.fine else TARGETS,
    )
    if not board.policies:
        return failed(options.json, f"{scenario.name}: no policy could be scored", FAILED)
    if options.out is not None:
        try:
            written = report.write(board, options.out)
        except OSError as refused:
            return failed(options.json, f"{options.out}: {refused}", FAILED)
        print("wrote " + ", ".join(map(str, written)), file=sys.stderr)
    print(json.dumps(board.to_json()) if options.json else report.table(board))
    return OK


def failed(as_json: bool, message: str, code: int) -> int:
    """Print an error; return the exit code."""
    if as_json:
        print(json.dumps({"error": message}))
    print(f"r1: {message}", file=sys.stderr)
    return code


def seconds(text: str) -> float:
    """Read a start-up time; raises ArgumentTypeError outside of a second to an hour."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 1 <= value <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r}: seconds from 1 to 3600 are required")
    return value


def _days(text: str) -> tuple[float, float]:
    first, between, last = text.partition(":")
    try:
        days = float(first), float(last)
    except ValueError:
        days = math.nan, math.nan
    if not between or not 0 <= days[0] < days[1] <= 10_000:
        raise argparse.ArgumentTypeError(f"{text!r}: two days such as 0:9 are required")
    return days


def _percent(text: str) -> float:
    if not text.isdigit() or not 50 <= int(text) <= 95:
        raise argparse.ArgumentTypeError(f"{text!r}: a percentage from 50 to 95 is required")
    return int(text) / 100


def _count(text: str) -> int:
    if not text.isdigit() or int(text) > 100:
        raise argparse.ArgumentTypeError(f"{text!r}: a number from 0 to 100 is required")
    return int(text)


def _names(text: str) -> tuple[str, ...]:
    if text == "all":
        return tuple(POLICIES)
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    unknown = [name for name in names if name not in POLICIES]
    if unknown or not names:
        known = ", ".join(POLICIES)
        raise argparse.ArgumentTypeError(
            f"no policy {', '.join(unknown)!r}; the policies are {known}"
        )
    return names

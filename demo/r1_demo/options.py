"""Command line options of the demo."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """Options of one run. Durations in seconds."""

    trace: Path | None = None
    series: str | None = None
    duration: float = 600.0
    lead_in: float = 90.0
    keep: bool = False
    json: bool = False
    forecast: bool = True
    capacity: float | None = None
    cluster: str = "r1-demo"
    out: Path = Path("out")
    seed: int = 14


def parse_duration(text: str) -> float:
    """Return seconds of "10m", "90s", "1h" or plain seconds.

    Raises argparse.ArgumentTypeError for anything else, and below 30 s.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|h)?", text.strip())
    if found is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a duration. Use for example 10m, 90s or 1h"
        )
    seconds = float(found[1]) * {"s": 1, "m": 60, "h": 3600, None: 1}[found[2]]
    if seconds < 30:
        raise argparse.ArgumentTypeError(f"{text} is too short: the minimum is 30s")
    return seconds


def _positive(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text} must be greater than 0")
    return value


def parse_options(arguments: Sequence[str] | None = None) -> DemoOptions:
    """Parse the command line; exits with a message on an invalid option."""
    default = DemoOptions()
    parser = argparse.ArgumentParser(
        prog="r1 demo",
        description="Boots a cluster, installs the chart, serves a small model in two resources and "
        "replays a recorded day of a production LLM service with predictive autoscaling.",
        epilog="make demo DURATION=2m equals r1 demo --duration 2m. Ctrl-C cleans up.",
    )
    parser.add_argument(
        "--trace",
        type=Path,
        metavar="FILE",
        help="replay this trace instead of the bundled one (.csv, .csv.gz, .parquet; rates or requests)",
    )
    parser.add_argument("--series", metavar="NAME", help="series to use in a file with several")
    parser.add_argument(
        "--duration",
        type=parse_duration,
        default=default.duration,
        help="length of the compressed day (default 10m, minimum 30s)",
    )
    parser.add_argument(
        "--lead-in",
        type=parse_duration,
        default=None,
        metavar="TIME",
        help="live load before the day, while the forecaster trains (default 90s)",
    )
    parser.add_argument(
        "--keep", action="store_true", help="keep the cluster and the resources at the end"
    )
    parser.add_argument("--json", action="store_true", help="print demo.json and nothing else")
    parser.add_argument(
        "--no-forecast",
        dest="forecast",
        action="store_false",
        help="disable the forecast, for comparison",
    )
    parser.add_argument(
        "--capacity",
        type=_positive,
        metavar="RATE",
        help="declared requests/s of one replica (default: measured)",
    )
    parser.add_argument(
        "--cluster", default=default.cluster, metavar="NAME", help="name of the local cluster"
    )
    parser.add_argument("--out", type=Path, default=default.out, metavar="FOLDER")
    parser.add_argument("--seed", type=int, default=default.seed, help="seed of the arrivals")
    given = parser.parse_args(arguments)
    values = vars(given)
    if given.lead_in is None:
        values["lead_in"] = default.lead_in
    if given.trace is not None and not given.trace.is_file():
        parser.error(f"--trace: no such file: {given.trace}")
    return DemoOptions(**values)

"""What can be said on the command line of the demonstration."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """The choices of one play. Durations in seconds."""

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
        raise argparse.ArgumentTypeError(f"{text!r} is no duration: write 10m, 90s or 1h")
    seconds = float(found[1]) * {"s": 1, "m": 60, "h": 3600, None: 1}[found[2]]
    if seconds < 30:
        raise argparse.ArgumentTypeError(f"{text} is too short to see anything: 30s at least")
    return seconds


def _positive(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text} must be greater than 0")
    return value


def parse_options(arguments: Sequence[str] | None = None) -> DemoOptions:
    """Read the command line; exits with a sentence on what cannot be used."""
    default = DemoOptions()
    parser = argparse.ArgumentParser(
        prog="r1 demo",
        description="Boots a cluster, installs the chart, serves a small model twice and plays a "
        "recorded day of a production LLM service, scaled before the load comes.",
        epilog="make demo DURATION=2m is the same as r1 demo --duration 2m. Ctrl-C cleans up.",
    )
    parser.add_argument(
        "--trace",
        type=Path,
        metavar="FILE",
        help="play this trace (csv, csv.gz, parquet: rates or requests) instead of the bundled one",
    )
    parser.add_argument(
        "--series", metavar="NAME", help="which series of a file that holds several"
    )
    parser.add_argument(
        "--duration",
        type=parse_duration,
        default=default.duration,
        help="how long the day takes: 10m (default), 2m for the impatient",
    )
    parser.add_argument(
        "--lead-in",
        type=parse_duration,
        default=None,
        metavar="TIME",
        help="how much of the day before is played live while the forecaster trains (default 90s)",
    )
    parser.add_argument("--keep", action="store_true", help="leave everything running at the end")
    parser.add_argument("--json", action="store_true", help="print demo.json and nothing else")
    parser.add_argument(
        "--no-forecast",
        dest="forecast",
        action="store_false",
        help="scale on real time alone, to compare",
    )
    parser.add_argument(
        "--capacity",
        type=_positive,
        metavar="RATE",
        help="requests/s of one replica (default: measured before the play)",
    )
    parser.add_argument(
        "--cluster", default=default.cluster, metavar="NAME", help="the local cluster's name"
    )
    parser.add_argument("--out", type=Path, default=default.out, metavar="FOLDER")
    parser.add_argument("--seed", type=int, default=default.seed, help="of the arrivals")
    given = parser.parse_args(arguments)
    values = vars(given)
    if given.lead_in is None:
        values["lead_in"] = default.lead_in
    if given.trace is not None and not given.trace.is_file():
        parser.error(f"--trace: there is no file {given.trace}")
    return DemoOptions(**values)

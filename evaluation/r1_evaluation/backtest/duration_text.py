"""Durations on the command line: `14d`, `36h`, `90m`, `30s`."""

from __future__ import annotations

import argparse
import re

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}


def parse_duration(text: str) -> float:
    """Return the seconds of a duration. Raises ArgumentTypeError, whose message argparse prints."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text.strip())
    if found is None or float(found[1]) <= 0:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a duration: a number and one of s, m, h, d, w is required, such as 14d"
        )
    return float(found[1]) * _SECONDS[found[2]]


def format_duration(seconds: float) -> str:
    """Return seconds in the largest unit that gives a figure of at least two."""
    for unit in ("d", "h", "m"):
        if seconds >= 2 * _SECONDS[unit]:
            return f"{seconds / _SECONDS[unit]:.3g} {unit}"
    return f"{seconds:.3g} s"

"""Output of the commands: tables, JSON and errors."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import Any

from rich.console import Console

OK, FAILED, USAGE, NOT_FOUND = 0, 1, 2, 3


class CommandFailed(Exception):
    """A command failed; `code` is the exit code."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code


def console() -> Console:
    """The console for tables: coloured on a terminal, plain and 160 columns wide in a pipe."""
    return Console(
        file=sys.stdout,
        width=None if sys.stdout.isatty() else 160,
        soft_wrap=False,
        highlight=False,
    )


def print_json(value: Any) -> None:
    """Print JSON, which is the only output on stdout with `--json`."""
    print(json.dumps(value, indent=2))


def age(timestamp: str | None, now: datetime | None = None) -> str:
    """The age of an API timestamp: `3d`, `4h`, `5m`, `6s`."""
    if not timestamp:
        return "-"
    then = datetime.fromisoformat(timestamp)
    seconds = max(0, int(((now or datetime.now(UTC)) - then).total_seconds()))
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "m")):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def clock(at: float) -> str:
    """Unix seconds as local time of day."""
    return datetime.fromtimestamp(at, UTC).astimezone().strftime("%H:%M:%S")

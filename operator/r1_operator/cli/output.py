"""How commands print: tables for people, JSON for programs, one way to fail."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import Any

from rich.console import Console

OK, FAILED, USAGE, NOT_FOUND = 0, 1, 2, 3


class CommandFailed(Exception):
    """The command cannot do what was asked; `code` is the exit code."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code


def console() -> Console:
    """Where tables go: in colour on a terminal, plain and wide into a pipe."""
    return Console(
        file=sys.stdout,
        width=None if sys.stdout.isatty() else 160,
        soft_wrap=False,
        highlight=False,
    )


def print_json(value: Any) -> None:
    """The only thing on stdout with `--json`."""
    print(json.dumps(value, indent=2))


def age(timestamp: str | None, now: datetime | None = None) -> str:
    """`3d`, `4h`, `5m`, `6s` since an API timestamp."""
    if not timestamp:
        return "-"
    then = datetime.fromisoformat(timestamp)
    seconds = max(0, int(((now or datetime.now(UTC)) - then).total_seconds()))
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "m")):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def clock(at: float) -> str:
    """Unix seconds as the reader's own time of day."""
    return datetime.fromtimestamp(at, UTC).astimezone().strftime("%H:%M:%S")

"""Progress of a long command, on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

Progress = Callable[[str], None]
"""Accepts the name of the part that begins."""


def progress_lines() -> Progress:
    """Writes each part with the seconds since the first."""
    started = time.monotonic()

    def write(part: str) -> None:
        sys.stderr.write(f"[{time.monotonic() - started:4.0f} s] {part} ...\n")
        sys.stderr.flush()

    return write

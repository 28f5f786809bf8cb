"""Run other programs: return the output, or raise an error with its end."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from r1_cluster.errors import ClusterError

TAIL_LINES = 15


def attempt(
    argv: Sequence[str | Path],
    *,
    stdin: str | None = None,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    timeout: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run `argv` to its end, with any exit status."""
    return subprocess.run(
        [str(part) for part in argv],
        check=False,
        capture_output=True,
        text=True,
        input=stdin,
        cwd=cwd,
        env=environment,
        timeout=timeout,
    )


def run(
    argv: Sequence[str | Path],
    failure: str,
    *,
    stdin: str | None = None,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    timeout: float | None = None,
    error: type[ClusterError] = ClusterError,
) -> str:
    """Run `argv` and return its stdout. Raises `error`: `failure`, then the output's end."""
    done = attempt(argv, stdin=stdin, cwd=cwd, environment=environment, timeout=timeout)
    if done.returncode != 0:
        raise error(f"{failure}: {tail(done.stderr) or tail(done.stdout)}")
    return done.stdout


def tail(output: str) -> str:
    """Return the last lines of a program's output."""
    return "\n".join(output.strip().splitlines()[-TAIL_LINES:])

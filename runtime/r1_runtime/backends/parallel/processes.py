"""Start of the ranks of one machine as processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress

from r1_runtime.backends.parallel.worker import CONNECT_SECONDS

_END_SECONDS = 10


def start_ranks(
    host: str, port: int, ranks: Sequence[int], first: int, *, wait: bool
) -> dict[int, subprocess.Popen[bytes]]:
    """Start a process for each rank.

    Args:
        host: address of the leader.
        port: its port.
        ranks: numbers of the ranks.
        first: the first rank of this machine.
        wait: whether the leader may start to listen later, on another machine.
    """
    seconds = CONNECT_SECONDS if wait else 0.0
    return {
        rank: subprocess.Popen(  # noqa: S603
            [
                *(sys.executable, "-m", "r1_runtime.backends.parallel.worker"),
                *("--leader", host, "--port", str(port), "--rank", str(rank)),
                *("--local", str(rank - first), "--connect-seconds", str(seconds)),
            ],
            stdin=subprocess.DEVNULL,
        )
        for rank in ranks
    }


def end_ranks(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Wait for the processes, which have been stopped; kill those that do not end."""
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.wait(_END_SECONDS)
        if process.poll() is None:
            process.kill()
            process.wait()


def ending(process: subprocess.Popen[bytes]) -> str | None:
    """How a process has ended, in words; None while it runs."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(1)
    code = process.poll()
    if code is None:
        return None
    return f"its process was killed by signal {-code}" if code < 0 else f"its exit code was {code}"

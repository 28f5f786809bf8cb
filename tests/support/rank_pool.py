"""Processes that serve as ranks of one division after another: torch is imported once in each."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from paged_steps import BLOCK_COUNT, BLOCK_SIZE
from r1_common import listen
from r1_runtime.backends.parallel.assignment import Assignment
from r1_runtime.backends.parallel.layout import ParallelLayout
from r1_runtime.backends.parallel.leader import ParallelBackend, lead
from r1_runtime.errors import RankLostError

_RANK = """\
import sys
from r1_runtime.backends.parallel.worker import run_worker
for line in sys.stdin:
    port, rank = map(int, line.split())
    run_worker("127.0.0.1", port, rank, rank, 0)
"""


@dataclass
class RankPool:
    """Idle processes; the test's own process is rank 0."""

    processes: list[subprocess.Popen[str]]

    @contextmanager
    def divided(
        self, folder: Path, layout: ParallelLayout, dtype: str = "float32"
    ) -> Iterator[tuple[ParallelBackend, list[RankLostError]]]:
        """A checkpoint over the ranks of a layout, and the list of the reported losses."""
        losses: list[RankLostError] = []
        listeners = listen.bind("127.0.0.1", 0)
        for each in listeners:
            each.listen()
        for rank, process in zip(range(1, layout.ranks), self.processes, strict=False):
            assert process.stdin is not None
            process.stdin.write(f"{listen.port_of(listeners)} {rank}\n")
            process.stdin.flush()
        assignment = Assignment(
            str(folder), layout, None, dtype, "cpu", BLOCK_COUNT, BLOCK_SIZE, threads=1
        )
        backend = lead(listeners, {}, assignment, losses.append)
        try:
            yield backend, losses
        finally:
            backend.close()


@contextmanager
def rank_pool(count: int) -> Iterator[RankPool]:
    """A pool of `count` processes."""
    processes = [
        subprocess.Popen([sys.executable, "-c", _RANK], stdin=subprocess.PIPE, text=True)
        for _ in range(count)
    ]
    try:
        yield RankPool(processes)
    finally:
        for process in processes:
            process.kill()
            process.wait()
            assert process.stdin is not None
            process.stdin.close()

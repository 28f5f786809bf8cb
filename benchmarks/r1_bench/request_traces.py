"""Recorded requests for a benchmark, and its message when there are none."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from r1_bench.rows import BenchmarkRow, write
from r1_evaluation.traces.load import RequestTrace, UnreadableTrace
from r1_evaluation.traces.readers import read_trace

FEWEST_REQUESTS = 2000


def request_traces(folder: Path) -> list[RequestTrace]:
    """The request-level traces of a folder with enough requests for a quantile of 99.9 %."""
    traces = []
    for path in sorted(folder.iterdir()):
        try:
            trace = read_trace(path)
        except UnreadableTrace:
            continue
        if isinstance(trace, RequestTrace) and len(trace.requests) >= FEWEST_REQUESTS:
            traces.append(trace)
    return traces


def bench(
    name: str, rows_of: Callable[[RequestTrace], Sequence[BenchmarkRow]], only: str = ""
) -> int:
    """Write the rows of every trace in the folder `R1_TRACES` whose name contains `only`.

    Returns the exit code.
    """
    folder = os.environ.get("R1_TRACES")
    if not folder or not Path(folder).is_dir():
        print(f"{name}: set R1_TRACES to a folder of request-level traces", file=sys.stderr)
        return 2
    traces = [trace for trace in request_traces(Path(folder)) if only in trace.name]
    if not traces:
        named = f" whose name contains {only!r}" if only else ""
        print(f"{name}: {folder} contains no request-level trace{named}", file=sys.stderr)
        return 2
    rows = [row for trace in traces for row in rows_of(trace)]
    write(name, rows)
    return 0 if all(row.ok is not False for row in rows) else 1

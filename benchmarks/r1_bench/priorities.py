"""How full a pool may run while Q1 keeps its promise: with and without priorities.

`R1_TRACES=FOLDER python -m r1_bench.priorities` plays recorded requests (any request-level trace in the
folder, at most an hour of each) through the gateway's own admission in front of simulated engines; see
`r1_pool.study` for what is held equal. The peer is one queue, first come first served.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from r1_bench.rows import Row, write
from r1_demo.load import RequestTrace, UnreadableTrace
from r1_demo.traces import read_trace
from r1_gateway.classes import PriorityClass
from r1_pool.study import Site, study

REPLICAS = 8
FEWEST_REQUESTS = 2000
BAR = 0.88


def request_traces(folder: Path) -> list[RequestTrace]:
    """The request-level traces of a folder that are long enough to judge one in a thousand by."""
    found = []
    for path in sorted(folder.iterdir()):
        try:
            trace = read_trace(path)
        except UnreadableTrace:
            continue
        if isinstance(trace, RequestTrace) and len(trace.requests) >= FEWEST_REQUESTS:
            found.append(trace)
    return found


def rows_of(trace: RequestTrace) -> list[Row]:
    """Seats in use at the highest load that keeps Q1's promise at 99.9 %."""
    levels = study(trace.requests, Site(trace.requests, replicas=REPLICAS), seed=0)
    none, gateway = levels["none"], levels["gateway"]
    rows = []
    for admission, level in levels.items():
        if level is None or admission == "none":
            continue
        rows.append(
            Row(
                f"{trace.name}: seats in use, {admission}",
                "share",
                level.outcome.utilisation,
                "one queue",
                none.outcome.utilisation if none else None,
            )
        )
    if gateway is not None:
        rows += [
            Row(
                f"{trace.name}: seats in use with Q3 filling",
                "share",
                gateway.outcome.utilisation,
                bar=BAR,
                higher_is_better=True,
            ),
            Row(
                f"{trace.name}: Q1 p99.9 time to first token",
                "s",
                gateway.outcome.of(PriorityClass.Q1).quantile(0.999),
            ),
        ]
    return rows


def main() -> int:
    """Run over the folder in `R1_TRACES`."""
    folder = os.environ.get("R1_TRACES")
    if not folder or not Path(folder).is_dir():
        print("priorities: set R1_TRACES to a folder of request-level traces", file=sys.stderr)
        return 2
    traces = request_traces(Path(folder))
    if not traces:
        print(f"priorities: {folder} holds no request-level trace", file=sys.stderr)
        return 2
    rows = [row for trace in traces for row in rows_of(trace)]
    write("priorities", rows)
    return 0 if all(row.ok is not False for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())

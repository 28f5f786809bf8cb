"""Utilization of a pool at which Q1 meets its SLO, with and without priorities.

`R1_TRACES=FOLDER python -m r1_bench.priorities` runs recorded requests (any request-level trace
in the folder, at most an hour of each) through the gateway's own admission before simulated
engines. `r1_evaluation.simulator.study` has the method. The peer is one queue, first come first
served.
"""

from __future__ import annotations

import argparse
import sys

from r1_bench.request_traces import bench
from r1_bench.rows import BenchmarkRow
from r1_common.contracts.priority_classes import PriorityClass
from r1_evaluation.simulator.study import StudyParameters, study
from r1_evaluation.traces.load import RequestTrace

REPLICAS = 8
BAR = 0.88


def rows_of(trace: RequestTrace) -> list[BenchmarkRow]:
    """Seats in use at the highest load at which 99.9 % of Q1 meet the SLO target."""
    levels = study(trace.requests, StudyParameters(trace.requests, replicas=REPLICAS), seed=0)
    none, gateway = levels["none"], levels["gateway"]
    rows = []
    for admission, level in levels.items():
        if level is None or admission == "none":
            continue
        rows.append(
            BenchmarkRow(
                f"{trace.name}: seats in use, {admission}",
                "share",
                level.outcome.utilisation,
                "one queue",
                none.outcome.utilisation if none else None,
            )
        )
    if gateway is not None:
        rows += [
            BenchmarkRow(
                f"{trace.name}: seats in use with Q3 filling",
                "share",
                gateway.outcome.utilisation,
                bar=BAR,
                higher_is_better=True,
            ),
            BenchmarkRow(
                f"{trace.name}: Q1 p99.9 time to first token",
                "s",
                gateway.outcome.of(PriorityClass.Q1).quantile(0.999),
            ),
        ]
    return rows


def main() -> int:
    """Run over the folder in `R1_TRACES`; returns the exit code."""
    argparse.ArgumentParser(prog="python -m r1_bench.priorities", description=__doc__).parse_args()
    return bench("priorities", rows_of)


if __name__ == "__main__":
    sys.exit(main())

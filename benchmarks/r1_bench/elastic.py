"""Autoscalers request by request, with the operator's decision and the gateway's admission.

`R1_TRACES=FOLDER python -m r1_bench.elastic` runs every request-level trace of the folder under
ours, an HPA, Knative's KPA and a constant count. `r1_evaluation.simulator.elastic_study` has the
method. Costs differ at every target, so the rows compare late requests at one cost: the HPA's at
a target of 0.7, or the least that ours pays if that is higher. A peer whose curve does not reach
that cost has no row.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial

from r1_bench.request_traces import bench
from r1_bench.rows import BenchmarkRow
from r1_evaluation.leaderboard.command import seconds
from r1_evaluation.simulator.elastic_study import (
    PLANNED,
    POLICIES,
    TARGETS,
    ElasticPoint,
    curve,
    hour_of,
    late_at,
)
from r1_evaluation.traces.load import RequestTrace

STARTS = (60.0, 300.0)


def rows_of(trace: RequestTrace, start_seconds: float) -> list[BenchmarkRow]:
    """The rows of one trace and start-up time; prints the curves."""
    hour = hour_of(trace)
    curves = {name: curve(hour, name, start_seconds) for name in POLICIES}
    print(_table(trace.name, start_seconds, curves), flush=True)
    planned = {name: points[TARGETS.index(PLANNED)] for name, points in curves.items()}
    ours = curves["ours-no-forecast"]
    # The HPA's cost at the planned target, or our lowest cost where that is higher.
    cost = max(planned["hpa"].cost, min(point.cost for point in ours))
    about = f"{trace.name}, start {start_seconds:g} s"
    rows = []
    for name in ("hpa", "knative", "static"):
        both = late_at(ours, cost), late_at(curves[name], cost)
        if both[0] is not None and both[1] is not None:
            rows.append(
                BenchmarkRow(
                    f"{about}: late at {cost:.1f} replicas", "share", both[0], name, both[1]
                )
            )
    mine = planned["ours-no-forecast"]
    for peer in ("hpa", "knative"):
        lost = planned[peer].lost
        rows.append(
            BenchmarkRow(
                f"{about}: streams cut off by scale-down", "requests", mine.lost, peer, lost
            )
        )
    rows.append(
        BenchmarkRow(f"{about}: streams cut off by scale-down", "requests", mine.lost, bar=0.0)
    )
    return rows


def _table(name: str, start_seconds: float, curves: dict[str, tuple[ElasticPoint, ...]]) -> str:
    lines = [
        f"{name}, start {start_seconds:g} s",
        "| policy | target | replicas paid | late | cut off | by failure | changes/h | pace p99 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {policy} | {p.target} | {p.cost:.2f} | {p.late:.2%} | {p.lost:.1f} "
        f"| {p.lost_by_failure:.1f} | {p.actions:.0f} | {p.pace_p99:.3f} |"
        for policy, points in curves.items()
        for p in points
    ]
    return "\n".join(lines)


def rows_at(starts: Sequence[float], trace: RequestTrace) -> list[BenchmarkRow]:
    """The rows of one trace at every start-up time."""
    return [row for start in starts for row in rows_of(trace, start)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run over the folder in `R1_TRACES`; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m r1_bench.elastic", description=__doc__)
    parser.add_argument(
        "--starts", type=seconds, nargs="+", default=STARTS, metavar="SECONDS",
        help="start-up times, 90 %% quantiles (60 300)",
    )  # fmt: skip
    parser.add_argument("--only", default="", help="traces whose name contains this text")
    options = parser.parse_args(arguments)
    return bench("elastic", partial(rows_at, options.starts), options.only)


if __name__ == "__main__":
    sys.exit(main())

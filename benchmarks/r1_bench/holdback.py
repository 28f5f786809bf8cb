"""Seats for Q1: what gateways keep free by themselves, and what the operator's advice adds.

`R1_TRACES=FOLDER python -m r1_bench.holdback` plays the first half hour of recorded requests through
the gateway's own admission in front of simulated engines, while batch work fills what is idle.
`r1_pool.advice_study` says what is played. Each row is the share of Q1 that waited for a seat for more
than half of a promise of 500 ms, with advice and (the peer) without; *foresight* is advice that knows
the arrivals to come. A row of seats in use says what that costs.
"""

from __future__ import annotations

import sys

from r1_bench.request_traces import bench
from r1_bench.rows import Row
from r1_demo.load import RequestTrace
from r1_pool.advice_study import CASES, Case, Load, late, load_of, play

SECONDS = 1800.0
REPLICAS = 8
SEEDS = 3
ALONE = "gateways alone"


def rows_of(trace: RequestTrace) -> list[Row]:
    """Two rows for each situation and advice."""
    load = load_of(trace.requests, SECONDS, REPLICAS)
    rows: list[Row] = []
    for case in CASES:
        alone_late, alone_used = _mean(load, case, "none")
        for advice in ("advised", "foresight"):
            share, used = _mean(load, case, advice)
            about = f"{trace.name}, {case.name}, {advice}"
            rows += [
                Row(f"{about}: Q1 that waits for a seat", "share", share, ALONE, alone_late),
                Row(f"{about}: seats in use", "share", used, ALONE, alone_used),
            ]
    return rows


def _mean(load: Load, case: Case, advice: str) -> tuple[float, float]:
    """The share of Q1 that waited too long, and the seats in use, over the seeds."""
    runs = [play(load, case, advice, 10 * seed) for seed in range(SEEDS)]
    counts = [late(run) for run in runs]
    came = sum(count for _, count in counts)
    waited = sum(count for count, _ in counts) / came if came else 0.0
    return waited, sum(run.utilisation for run in runs) / SEEDS


if __name__ == "__main__":
    sys.exit(bench("holdback", rows_of))

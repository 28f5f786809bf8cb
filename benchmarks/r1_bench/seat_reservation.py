"""Seats for Q1: reservations by gateways alone, and by the operator.

`R1_TRACES=FOLDER python -m r1_bench.seat_reservation` runs the first half hour of recorded
requests through the gateway's own admission before simulated engines, while batch work fills idle
seats. `r1_evaluation.simulator.reservation_study` has the cases. Each row is the share of Q1 that
waited for a seat for more than half of an SLO target of 500 ms, with the operator's reservations
and (the peer) without. *perfect-forecast* knows the arrivals to come. A second row has the seats
in use.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from r1_bench.request_traces import bench
from r1_bench.rows import BenchmarkRow
from r1_common import seat_reservation
from r1_evaluation.simulator.reservation_study import (
    BATCH_RATE,
    CASES,
    RESERVATIONS,
    Case,
    Load,
    late,
    load_of,
    play,
)
from r1_evaluation.traces.load import RequestTrace

REPLICAS = 8
ALONE = "gateways alone"


@dataclass(frozen=True, slots=True)
class StudyArguments:
    """Length of the recording in s, batch load in requests/s, number of seeds."""

    seconds: float = 1800.0
    batch_rate: float = BATCH_RATE
    seeds: int = 3
    stricter: float | None = None
    """a second, lower probability of finding no seat, for the gateways alone"""


def rows_of(trace: RequestTrace, arguments: StudyArguments | None = None) -> list[BenchmarkRow]:
    """Return two rows for each case and kind of reservation."""
    arguments = arguments or StudyArguments()
    load = load_of(trace.requests, arguments.seconds, REPLICAS, arguments.batch_rate)
    rows: list[BenchmarkRow] = []
    for case in CASES:
        alone_late, alone_used = _mean(load, case, "none", arguments.seeds)
        results = {
            reservations: _mean(load, case, reservations, arguments.seeds)
            for reservations in RESERVATIONS
            if reservations != "none"
        }
        if arguments.stricter is not None:
            usual, seat_reservation.MISSES = seat_reservation.MISSES, arguments.stricter
            results["stricter"] = _mean(load, case, "none", arguments.seeds)
            seat_reservation.MISSES = usual
        for reservations, (share, used) in results.items():
            about = f"{trace.name}, {case.name}, {reservations}"
            rows += [
                BenchmarkRow(
                    f"{about}: Q1 that waits for a seat", "share", share, ALONE, alone_late
                ),
                BenchmarkRow(f"{about}: seats in use", "share", used, ALONE, alone_used),
            ]
    return rows


def _mean(load: Load, case: Case, reservations: str, seeds: int) -> tuple[float, float]:
    """The share of Q1 that waited too long, and the seats in use, over the seeds."""
    runs = [play(load, case, reservations, 10 * seed) for seed in range(seeds)]
    counts = [late(run) for run in runs]
    came = sum(count for _, count in counts)
    waited = sum(count for count, _ in counts) / came if came else 0.0
    return waited, sum(run.utilisation for run in runs) / seeds


def main(arguments: Sequence[str] | None = None) -> int:
    """Run over the folder in `R1_TRACES`; returns the exit code."""
    usual = StudyArguments()
    parser = argparse.ArgumentParser(
        prog="python -m r1_bench.seat_reservation", description=__doc__
    )
    parser.add_argument("--only", default="", help="traces whose name contains this text")
    parser.add_argument(
        "--seconds", type=float, default=usual.seconds, help="of each recording (1800)"
    )
    parser.add_argument(
        "--batch-rate", type=float, default=usual.batch_rate, metavar="RATE",
        help=f"batch requests a second ({BATCH_RATE:g})",
    )  # fmt: skip
    parser.add_argument("--seeds", type=int, default=usual.seeds, choices=range(1, 21), metavar="N")
    parser.add_argument(
        "--stricter", type=float, metavar="PROBABILITY",
        help=f"also gateways alone with this probability of no seat (theirs: {seat_reservation.MISSES:g})",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    study = StudyArguments(options.seconds, options.batch_rate, options.seeds, options.stricter)
    return bench("seat-reservation", partial(rows_of, arguments=study), options.only)


if __name__ == "__main__":
    sys.exit(main())

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
    """How much of a recording is played, with how much batch work (requests/s), how often."""

    seconds: float = 1800.0
    batch_rate: float = BATCH_RATE
    seeds: int = 3
    stricter: float | None = None
    """a chance of finding no seat that gateways alone are tried with as well, less than theirs"""


def rows_of(trace: RequestTrace, asked: StudyArguments | None = None) -> list[BenchmarkRow]:
    """Two rows for each situation and advice."""
    asked = asked or StudyArguments()
    load = load_of(trace.requests, asked.seconds, REPLICAS, asked.batch_rate)
    rows: list[BenchmarkRow] = []
    for case in CASES:
        alone_late, alone_used = _mean(load, case, "none", asked.seeds)
        found = {
            reservations: _mean(load, case, reservations, asked.seeds)
            for reservations in RESERVATIONS
            if reservations != "none"
        }
        if asked.stricter is not None:
            usual, seat_reservation.MISSES = seat_reservation.MISSES, asked.stricter
            found["stricter"] = _mean(load, case, "none", asked.seeds)
            seat_reservation.MISSES = usual
        for reservations, (share, used) in found.items():
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
    parser.add_argument("--only", default="", help="traces whose name holds this text")
    parser.add_argument(
        "--seconds", type=float, default=usual.seconds, help="of each recording (1800)"
    )
    parser.add_argument(
        "--batch-rate", type=float, default=usual.batch_rate, metavar="RATE",
        help=f"batch requests a second ({BATCH_RATE:g})",
    )  # fmt: skip
    parser.add_argument("--seeds", type=int, default=usual.seeds, choices=range(1, 21), metavar="N")
    parser.add_argument(
        "--stricter", type=float, metavar="CHANCE",
        help=f"gateways alone with this chance of finding no seat as well ({seat_reservation.MISSES:g})",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    asked = StudyArguments(options.seconds, options.batch_rate, options.seeds, options.stricter)
    return bench("seat-reservation", partial(rows_of, asked=asked), options.only)


if __name__ == "__main__":
    sys.exit(main())

"""Advice to simulated gateways: it reaches them, and every request is still accounted for."""

from __future__ import annotations

from dataclasses import replace

from r1_bench import seat_reservation
from r1_common import seat_reservation as formula
from r1_common.contracts.priority_classes import DEFAULT_POLICIES, PriorityClass
from r1_evaluation.simulator.arrivals import Arrival
from r1_evaluation.simulator.engine import EngineSpeed
from r1_evaluation.simulator.operator_reservations import Operator
from r1_evaluation.simulator.reservation_study import CASES, Case, Load, late, play
from r1_evaluation.simulator.simulation import Pool, PoolOutcome, ScheduledReplicas
from r1_evaluation.simulator.study import StudyParameters
from r1_evaluation.traces.load import RecordedRequest, RequestTrace
from r1_operator.api.scaling import ClassName

Q1, Q2, Q3 = PriorityClass
SPEED = EngineSpeed(
    base_seconds=0.02,
    per_sequence_seconds=0.001,
    per_prefill_token_seconds=0.0001,
    chunk_tokens=100,
    seats=8,
)
PROMISED = (replace(DEFAULT_POLICIES[0], time_to_first_token_seconds=0.5), *DEFAULT_POLICIES[1:])
RECORDED = tuple(RecordedRequest(0.5 * n, 50, 100) for n in range(400))
LOAD = Load(StudyParameters(RECORDED, replicas=2, speed=SPEED), 0.5, 3.0)


def busy(
    operator: Operator | None,
    gateways: int = 2,
    replica_schedule: tuple[ScheduledReplicas, ...] = (),
) -> PoolOutcome:
    """Batch work that fills two replicas, and an urgent request a second among it."""
    arrivals = [Arrival(0.2 * n, Q3, 10, 200) for n in range(1000)]
    arrivals += [Arrival(20.0 + n, Q1, 10, 5) for n in range(150)]
    arrivals.sort(key=lambda arrival: arrival.at)
    pool = Pool(
        2,
        SPEED,
        PROMISED,
        fifo=False,
        gateways=gateways,
        operator=operator,
        replica_schedule=replica_schedule,
    )
    return pool.run(arrivals, warm_up=30.0, seconds=200.0)


def test_several_gateways_account_for_every_request() -> None:
    for outcome in (busy(None), busy(Operator({ClassName.Q1: 0.5}))):
        urgent = outcome.of(Q1)
        assert urgent.offered == len(urgent.waits) == urgent.completed + urgent.expired


def test_a_perfect_forecast_reserves_at_least_the_observed_need() -> None:
    slo_targets = {ClassName.Q1: 0.5}
    observed, perfect = (
        busy(Operator(slo_targets)),
        busy(Operator(slo_targets, perfect_forecast=True)),
    )
    assert late(perfect)[1] == late(observed)[1] > 100
    assert perfect.utilisation <= observed.utilisation + 0.01


def test_leaving_replicas_accept_no_requests() -> None:
    whole = busy(None)
    halved = busy(None, replica_schedule=(ScheduledReplicas(60.0, 1), ScheduledReplicas(120.0, 2)))
    assert halved.utilisation < whole.utilisation - 0.05


def test_every_case_has_equal_arrivals_with_and_without_reservations() -> None:
    for case in CASES:
        alone, advised = play(LOAD, case, "none", 1), play(LOAD, case, "operator", 1)
        assert alone.of(Q1).offered == advised.of(Q1).offered > 0
    waves = play(LOAD, Case("waves", waves=True), "none", 1)
    assert 0 < waves.of(Q1).offered < play(LOAD, Case("steady"), "none", 1).of(Q1).offered


def test_the_rows_hold_waits_and_seats_of_both_sides() -> None:
    rows = seat_reservation.rows_of(RequestTrace("small", RECORDED[:200]))
    assert len(rows) == 4 * len(CASES)
    assert {row.peer for row in rows} == {"gateways alone"}
    assert all(0 <= row.ours <= 1 for row in rows)


def test_larger_reservations_are_tried_only_on_request() -> None:
    usual = formula.MISSES
    trace = RequestTrace("small", RECORDED[:200])
    rows = seat_reservation.rows_of(trace, seat_reservation.StudyArguments(seeds=1, stricter=1e-5))
    assert usual == formula.MISSES
    stricter = [row for row in rows if "stricter" in row.name]
    assert len(stricter) == 2 * len(CASES)
    used = [row for row in stricter if row.name.endswith("seats in use")]
    assert any(row.ours != row.peer_value for row in used), "it makes a difference"

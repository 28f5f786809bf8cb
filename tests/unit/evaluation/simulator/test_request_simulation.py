"""The simulated pool: engines keep the arithmetic of batching, nobody gets lost, order counts."""

import math

import pytest

from r1_common.contracts.priority_classes import DEFAULT_POLICIES, PriorityClass
from r1_evaluation.simulator.arrivals import Arrival, batch, interactive
from r1_evaluation.simulator.engine import EngineSpeed, SimulatedEngine, Work
from r1_evaluation.simulator.simulation import Pool
from r1_evaluation.simulator.study import StudyParameters, highest
from r1_evaluation.traces.load import RecordedRequest

Q1, Q2, Q3 = PriorityClass
SPEED = EngineSpeed(
    base_seconds=0.02,
    per_sequence_seconds=0.001,
    per_prefill_token_seconds=0.0001,
    chunk_tokens=100,
    seats=4,
)


def drain(engine: SimulatedEngine) -> list[tuple[float, Work]]:
    ended = []
    while engine.busy:
        now = engine.ends_at
        ended += [(now, work) for work in engine.advance(now)]
    return ended


def test_a_request_alone_takes_its_prefill_and_an_iteration_per_further_token() -> None:
    engine, work = SimulatedEngine(SPEED), Work(100, 11)
    engine.add(work, 5.0)
    [(ended, _)] = drain(engine)
    assert work.first_token_at == pytest.approx(5.0 + 0.02 + 0.01)
    assert work.first_token_at == pytest.approx(5.0 + SPEED.alone_seconds(100))
    assert ended == pytest.approx(5.03 + 10 * 0.021)


def test_a_request_joins_at_the_next_iteration() -> None:
    engine, first, second = SimulatedEngine(SPEED), Work(1, 101), Work(1, 2)
    engine.add(first, 0.0)
    engine.advance(engine.ends_at)
    begun = 0.02 + 0.0001
    engine.add(second, begun + 2.5 * 0.021)
    assert engine.ends_at == pytest.approx(begun + 3 * 0.021)
    ended = drain(engine)
    assert [work for _, work in ended] == [second, first]
    assert second.first_token_at == pytest.approx(begun + 3 * 0.021 + 0.021 + 0.0001)
    # 100 further tokens: 98 alone, one beside the prefill of `second`, one beside its last token
    assert ended[-1][0] == pytest.approx(begun + 98 * 0.021 + 0.0211 + 0.022)


def test_a_long_prompt_is_chunked_and_decoding_continues() -> None:
    engine, short, long = SimulatedEngine(SPEED), Work(1, 50), Work(350, 1)
    engine.add(short, 0.0)
    engine.advance(engine.ends_at)
    engine.add(long, 0.03)
    ended = {id(work): at for at, work in drain(engine)}
    assert long.first_token_at == ended[id(long)]
    assert ended[id(short)] > ended[id(long)]


def outcome(fifo: bool, batch_requests: int) -> tuple[float, float]:
    """The share of Q1 in time and the use of the seats, with batch work in front of them."""
    arrivals = [Arrival(0.0, Q3, 10, 200) for _ in range(batch_requests)]
    arrivals += [Arrival(10.0 + n, Q1, 10, 5) for n in range(40)]
    result = Pool(1, SPEED, DEFAULT_POLICIES, fifo=fifo).run(arrivals, warm_up=5.0, seconds=60.0)
    return result.of(Q1).slo_attainment(5.0), result.utilisation


def test_priority_order_meets_the_slo_where_one_queue_misses_it() -> None:
    with_order, used = outcome(False, 100)
    without, _ = outcome(True, 100)
    assert with_order == 1.0
    assert without < 0.5
    assert used > 0.9


def test_every_request_is_accounted_for() -> None:
    recorded = [RecordedRequest(float(n), 50, 20) for n in range(100)]
    arrivals = sorted(
        [*interactive(recorded, 2.5, 0.5, 1), *batch(recorded, 1.0, 100.0, 2)], key=lambda a: a.at
    )
    result = Pool(2, SPEED, DEFAULT_POLICIES, fifo=False).run(arrivals, warm_up=0.0, seconds=1000.0)
    assert sum(c.offered for c in result.classes) == len(arrivals)
    assert sum(c.completed for c in result.classes) == len(arrivals)
    assert all(math.isfinite(wait) for c in result.classes for wait in c.waits)
    assert 0 < result.utilisation < 1


def test_priorities_allow_a_higher_utilization() -> None:
    recorded = tuple(RecordedRequest(0.25 * n, 50, 40) for n in range(800))
    site = StudyParameters(recorded, replicas=8, speed=SPEED)
    without = highest(site, "none", 0.3, 0, steps=6)
    gateway = highest(site, "gateway", 0.3, 0, steps=6)
    assert without is not None
    assert gateway is not None
    assert gateway.outcome.utilisation > without.outcome.utilisation

"""Dynamo's planner and Ray Serve as restated here, against figures that their packages gave.

Recorded on 2026-11-25 from ai-dynamo 1.3.1 and ray 2.60.0 (both Apache-2.0) by the programs in
`benchmarks/r1_owners/programs`; `tests/contract/peers` plays far more where the packages are.
"""

from __future__ import annotations

import numpy as np
import pytest

from r1_board import dynamo, ray_serve
from r1_board.policies import POLICIES, Bench
from r1_board.world import world_of
from r1_demo.load import RateTrace

REQUESTS = [0, 0, 100, 120, 90, 150, 0, 80, 400, 390, 380, 20]


class TestDynamoPredictors:
    def test_constant(self) -> None:
        assert dynamo.constant(REQUESTS, 0).tolist() == [0, *REQUESTS]
        assert dynamo.constant(REQUESTS, 10).tolist() == [390, 380, 20]

    def test_kalman_with_leading_zeros(self) -> None:
        said = [
            0.0, 0.0, 0.0, 100.0, 129.845847837, 62.781292016, 150.271078754, 13.145497629,
            38.369691404, 280.338937712, 389.441272267, 436.338416296, 256.650703605,
        ]  # fmt: skip
        assert dynamo.kalman(REQUESTS, 0).tolist() == pytest.approx(said, abs=1e-8)
        assert dynamo.kalman(REQUESTS, 9).tolist() == pytest.approx(said[9:], abs=1e-8)


@pytest.mark.parametrize(
    ("requests", "engine_rps", "replicas"),
    [(0, 2.0, 1), (-5, 2.0, 1), (360, 2.0, 1), (361, 2.0, 2), (1000, 0.7, 8), (1800, 2.5, 4)],
)
def test_dynamo_throughput(requests: float, engine_rps: float, replicas: int) -> None:
    assert dynamo.throughput_step(requests, 180, engine_rps) == replicas


@pytest.mark.parametrize(
    ("workers", "usage", "replicas"),
    [(1, 1.0, 1), (1, 1.01, 2), (1, 0.1, 1), (2, 0.59, 1), (2, 0.6, 2), (5, 0.3, 4), (5, 1.7, 6),
     (5, 0.8, 5)],
)  # fmt: skip
def test_dynamo_load(workers: int, usage: float, replicas: int) -> None:
    assert dynamo.load_step(workers, usage) == replicas


def test_dynamo_adds_one_replica_a_start_and_gives_back_three_a_step() -> None:
    rising = dynamo.load(np.full(13, 9.0), most=20, start_steps=4)
    assert rising.tolist() == [9] * 13  # the first count fits
    worth = np.array([2.0] + [9.0] * 12)
    assert dynamo.load(worth, 20, start_steps=4).tolist() == [2] + [3] * 5 + [4] * 5 + [5] * 2
    assert dynamo.load(np.array([9.0, 3.0, 3.0]), 20, start_steps=4).tolist() == [9, 6, 5]


def test_a_throughput_decision_falls_a_step_into_its_interval_and_holds() -> None:
    world = world_of(RateTrace("flat", 60.0, tuple([60.0] * 240)), 60)
    values, warm = dynamo.requests_per_interval(world)
    assert values.tolist() == [180.0] * 80
    assert warm == world.begin // dynamo.INTERVAL_STEPS
    predicted = np.arange(1, len(values) - warm + 2, dtype=np.float64) * 180
    course = dynamo.throughput(world, predicted, engine_rps=1.0, most=5)
    assert course[:26].tolist() == [1] * 13 + [2] * 12 + [3]
    assert course.max() == 5
    assert len(course) == len(world.demand) - world.begin


STORY = [
    *((3, worth) for worth in (6, 9, 9, 11, 4)),
    *((6, worth) for worth in (12.5, 12, 15)),
    (7, 13), *[(8, 6)] * 45, *[(8, 9)] * 2,
]  # fmt: skip
"""Running replicas and ongoing requests at a target of 2, every 15 s from a count of 3."""


def test_ray_serve_waits_30_s_to_rise_and_600_s_to_fall() -> None:
    target, patience, course = 3, ray_serve.Patience(), []
    for number, (running, ongoing) in enumerate(STORY):
        wanted = ray_serve.desired(running, ongoing / 2)
        target, patience = ray_serve.step(wanted, target, patience, number * 15.0)
        course.append(target)
    assert course == [3] * 3 + [6] * 46 + [3] * 7


def wave() -> Bench:
    """Four hours of a calm wave; a predictor that always says its last value."""
    rates = 600 + 400 * np.sin(np.arange(240) / 30)
    world = world_of(RateTrace("wave", 60.0, tuple(rates.tolist())), 60)
    return Bench(world, foretell=lambda name, values, first: dynamo.constant(values, first))


def test_what_the_owners_predictor_says_is_what_is_played() -> None:
    bench = wave()
    constant = POLICIES["dynamo-constant"](bench, 0.7)
    assert POLICIES["dynamo-arima"](bench, 0.7).tolist() == constant.tolist()
    assert POLICIES["dynamo-kalman"](bench, 0.7).tolist() != constant.tolist()


def test_ray_serve_follows_demand_up_at_once_and_down_after_ten_minutes() -> None:
    bench = wave()
    course = POLICIES["ray-serve"](bench, 0.7)
    needed = bench.replicas(bench.newest, 0.7)
    falls = np.flatnonzero(np.diff(course) < 0)
    assert len(falls) >= 1
    assert np.diff(falls).min(initial=99) >= 40
    assert (course[4:] >= needed[:-4]).mean() > 0.95

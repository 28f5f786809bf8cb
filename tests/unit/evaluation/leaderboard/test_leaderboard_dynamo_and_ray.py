"""Dynamo's planner and Ray Serve as restated here, against figures that their packages gave.

Recorded on 2026-11-25 from ai-dynamo 1.3.1 and ray 2.60.0 (both Apache-2.0) by the programs in
`evaluation/r1_evaluation/reference_programs/programs`; `tests/contract/peers` plays far more where the packages are.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from r1_evaluation.baselines import dynamo, dynamo_load, ray_serve
from r1_evaluation.policies.inputs import PolicyInputs
from r1_evaluation.policies.registry import POLICIES
from r1_evaluation.traces.load import RateTrace
from r1_evaluation.traces.scenario import Floats, scenario_of

REQUESTS = [0, 0, 100, 120, 90, 150, 0, 80, 400, 390, 380, 20]


class TestDynamoPredictors:
    def test_dynamos_constant_predictor(self) -> None:
        assert dynamo.constant(REQUESTS, 0).tolist() == [0, *REQUESTS]
        assert dynamo.constant(REQUESTS, 10).tolist() == [390, 380, 20]

    def test_dynamos_kalman_predictor_ignores_leading_zeros(self) -> None:
        predictions = [
            0.0, 0.0, 0.0, 100.0, 129.845847837, 62.781292016, 150.271078754, 13.145497629,
            38.369691404, 280.338937712, 389.441272267, 436.338416296, 256.650703605,
        ]  # fmt: skip
        assert dynamo.kalman(REQUESTS, 0).tolist() == pytest.approx(predictions, abs=1e-8)
        assert dynamo.kalman(REQUESTS, 9).tolist() == pytest.approx(predictions[9:], abs=1e-8)


@pytest.mark.parametrize(
    ("requests", "engine_rps", "replicas"),
    [(0, 2.0, 1), (-5, 2.0, 1), (360, 2.0, 1), (361, 2.0, 2), (1000, 0.7, 8), (1800, 2.5, 4)],
)
def test_dynamos_throughput_planner_equals_the_recording(
    requests: float, engine_rps: float, replicas: int
) -> None:
    assert dynamo.throughput_step(requests, 180, engine_rps) == replicas


@pytest.mark.parametrize(
    ("workers", "usage", "replicas"),
    [(1, 1.0, 1), (1, 1.01, 2), (1, 0.1, 1), (2, 0.59, 1), (2, 0.6, 2), (5, 0.3, 4), (5, 1.7, 6),
     (5, 0.8, 5)],
)  # fmt: skip
def test_dynamos_threshold_planner_equals_the_recording(
    workers: int, usage: float, replicas: int
) -> None:
    assert dynamo_load.threshold_step(workers, usage) == replicas


@pytest.mark.parametrize(
    ("workers", "usage", "replicas"),
    [(1, 0.5, 1), (1, 0.99, 1), (1, 1.0, 2), (1, 1.3, 2), (2, 0.3, 1), (2, 0.38, 1), (2, 0.39, 2),
     (2, 0.9, 2), (3, 0.51, 2), (3, 0.52, 3), (10, 0.69, 9), (10, 0.7, 10), (10, 0.996, 10),
     (10, 0.997, 11), (20, 0.72, 19), (20, 0.74, 20), (30, 0.05, 29)],
)  # fmt: skip
def test_dynamos_latency_planner_equals_the_recording(
    workers: int, usage: float, replicas: int
) -> None:
    assert dynamo_load.latency_step(workers, usage) == replicas


@pytest.mark.parametrize(
    ("workers", "usage", "floor", "replicas"),
    [(3, 0.9, 1, 3), (3, 0.9, 3, 3), (3, 0.9, 5, 5), (3, 0.3, 1, 2), (3, 0.3, 3, 3), (3, 0.3, 7, 7),
     (3, 1.2, 1, 4), (3, 1.2, 4, 4), (3, 1.2, 9, 9)],
)  # fmt: skip
def test_dynamos_hybrid_planner_equals_the_recording(
    workers: int, usage: float, floor: int, replicas: int
) -> None:
    assert dynamo_load.latency_step(workers, usage, floor) == replicas


def loaded(
    demand_in_replicas: Floats, usage: Callable[[float], float] = dynamo_load.in_proportion
) -> list[int]:
    course: list[int] = dynamo_load.simulate(
        demand_in_replicas, 20, 4, dynamo_load.threshold_step, usage
    ).tolist()
    return course


def test_dynamo_adds_one_replica_per_start_and_removes_three_per_step() -> None:
    assert loaded(np.full(13, 9.0)) == [9] * 13  # the first count fits
    demand_in_replicas = np.array([2.0] + [9.0] * 12)
    assert loaded(demand_in_replicas) == [2] + [3] * 5 + [4] * 5 + [5] * 2
    assert loaded(np.array([9.0, 3.0, 3.0])) == [9, 6, 5]


def test_dynamos_floor_is_reached_in_one_step() -> None:
    floors = np.array([2, 2, 7, 7, 7, 7, 7, 7, 1, 1])
    course = dynamo_load.simulate(
        np.full(10, 1.9), 20, 4, dynamo_load.latency_step, dynamo_load.in_proportion, floors
    )
    # Nothing is decided while the five start; then the floor is gone and three go a step.
    assert course.tolist() == [2, 2, 7, 7, 7, 7, 7, 7, 4, 3]


def test_a_cache_fills_by_littles_law() -> None:
    """At a load the share in use is what comes times as long as an iteration then takes."""
    for load in (0.05, 0.3, 0.7, 0.95):
        share = dynamo_load.filled(load)
        longer = dynamo_load.iteration_ms(share) / dynamo_load.OBJECTIVE_MS
        assert share == pytest.approx(load * longer)
    assert dynamo_load.filled(0.0) == 0
    assert dynamo_load.filled(1.0) == 1
    assert dynamo_load.filled(1.4) == 1.4, "what does not fit waits"


def test_a_throughput_decision_falls_a_step_into_its_interval_and_holds() -> None:
    scenario = scenario_of(RateTrace("flat", 60.0, tuple([60.0] * 240)), 60)
    values, warm = dynamo.requests_per_interval(scenario)
    assert values.tolist() == [180.0] * 80
    assert warm == scenario.begin // dynamo.INTERVAL_STEPS
    predicted = np.arange(1, len(values) - warm + 2, dtype=np.float64) * 180
    course = dynamo.throughput(scenario, predicted, engine_rps=1.0, max_replicas=5)
    assert course[:26].tolist() == [1] * 13 + [2] * 12 + [3]
    assert course.max() == 5
    assert len(course) == len(scenario.demand) - scenario.begin


STORY = [
    *((3, demand_in_replicas) for demand_in_replicas in (6, 9, 9, 11, 4)),
    *((6, demand_in_replicas) for demand_in_replicas in (12.5, 12, 15)),
    (7, 13), *[(8, 6)] * 45, *[(8, 9)] * 2,
]  # fmt: skip
"""Running replicas and ongoing requests at a target of 2, every 15 s from a count of 3."""


def test_ray_serve_waits_30_s_to_rise_and_600_s_to_fall() -> None:
    target, patience, course = 3, ray_serve.Delays(), []
    for number, (running, ongoing) in enumerate(STORY):
        wanted = ray_serve.desired(running, ongoing / 2)
        target, patience = ray_serve.step(wanted, target, patience, number * 15.0)
        course.append(target)
    assert course == [3] * 3 + [6] * 46 + [3] * 7


def wave() -> PolicyInputs:
    """Four hours of a calm wave; a predictor that always says its last value."""
    rates = 600 + 400 * np.sin(np.arange(240) / 30)
    scenario = scenario_of(RateTrace("wave", 60.0, tuple(rates.tolist())), 60)
    return PolicyInputs(
        scenario, predict=lambda name, values, first: dynamo.constant(values, first)
    )


def test_the_reference_predictors_output_sets_the_counts() -> None:
    inputs = wave()
    constant = POLICIES["dynamo-constant"](inputs, 0.7)
    assert POLICIES["dynamo-arima"](inputs, 0.7).tolist() == constant.tolist()
    assert POLICIES["dynamo-kalman"](inputs, 0.7).tolist() != constant.tolist()


def test_dynamos_hybrid_stays_at_or_above_its_prediction() -> None:
    inputs = wave()
    alone = POLICIES["dynamo-latency"](inputs, 0.7)
    hybrid = POLICIES["dynamo-hybrid-constant"](inputs, 0.7)
    floor = POLICIES["dynamo-constant"](inputs, 0.7)
    assert (alone < floor).any()
    for step in np.flatnonzero(hybrid < floor).tolist():
        lately = hybrid[max(0, step - inputs.scenario.start_steps - 1) : step + 1]
        assert np.diff(lately).max() > 0, "it is below its floor only while replicas start"


def test_ray_serve_follows_demand_up_at_once_and_down_after_ten_minutes() -> None:
    inputs = wave()
    course = POLICIES["ray-serve"](inputs, 0.7)
    needed = inputs.replicas(inputs.newest, 0.7)
    falls = np.flatnonzero(np.diff(course) < 0)
    assert len(falls) >= 1
    assert np.diff(falls).min(initial=99) >= 40
    assert (course[4:] >= needed[:-4]).mean() > 0.95

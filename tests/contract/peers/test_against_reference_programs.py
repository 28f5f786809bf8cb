"""Our fast restatements beside the owners' own code, step by step, on drawn loads.

They run where the owners' packages are (`make bench-forecast` and `r1 leaderboard --policies
all` fetch Dynamo's, `python -m r1_evaluation.reference_programs` both); nothing is fetched here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from r1_evaluation.baselines import dynamo, dynamo_load, ray_serve
from r1_evaluation.baselines.contrib import phpa_holt_winters
from r1_evaluation.reference_programs.environment import (
    DYNAMO,
    RAY,
    ReferenceProgram,
    interpreter_of,
)
from r1_evaluation.reference_programs.reference_process import ReferenceProcess, reference_process

pytestmark = pytest.mark.reference

DEMAND_IN_REPLICAS = np.concatenate(
    [np.linspace(3, 9, 40), np.linspace(9, 1.2, 60), np.full(20, 4.0)]
)
START = 4
ENGINE = {
    "idle_ms": dynamo_load.IDLE_MS,
    "filling_ms": dynamo_load.FILLING_MS,
    "cache_tokens": dynamo_load.CACHE_TOKENS,
    "request_tokens": dynamo_load.REQUEST_TOKENS,
    "objective_ms": dynamo_load.OBJECTIVE_MS,
}


@contextmanager
def running(reference_program: ReferenceProgram, program: str) -> Iterator[ReferenceProcess]:
    python = interpreter_of(reference_program)
    if python is None:
        pytest.skip(
            f"{reference_program.name} has not been installed: python -m r1_evaluation.reference_programs"
        )
    with reference_process(reference_program, python, program) as process:
        yield process


def drawn(seed: int, count: int) -> list[float]:
    """Requests per interval: idle, a walk, a burst, idle again."""
    random = np.random.default_rng(seed)
    walk = np.exp(np.cumsum(random.normal(0, 0.1, count))) * 1000
    walk[: random.integers(0, 5)] = 0
    walk[count // 2 : count // 2 + 5] *= 8
    walk[-7:-4] = 0
    return [float(value) for value in np.round(walk)]


def test_dynamos_constant_and_kalman_agree_at_every_step() -> None:
    with running(DYNAMO, "dynamo_predictors") as process:
        for seed in range(6):
            values = drawn(seed, 120)
            for name, restated in (("constant", dynamo.constant), ("kalman", dynamo.kalman)):
                for first in (0, 60):
                    request = {"predictor": name, "values": values, "from": first}
                    reference = process.send(request)["predictions"]
                    assert restated(values, first).tolist() == pytest.approx(reference, rel=1e-9)


def test_dynamos_throughput_planner_agrees() -> None:
    random = np.random.default_rng(1)
    with running(DYNAMO, "dynamo_planner") as process:
        for _ in range(200):
            requests, rps = float(random.gamma(1, 2000)), float(random.uniform(0.05, 5))
            request = {
                "plan": "throughput",
                "requests": requests,
                "interval": 180,
                "engine_rps": rps,
            }
            assert process.send(request)["replicas"] == dynamo.throughput_step(requests, 180, rps)


def test_dynamos_threshold_planner_agrees() -> None:
    """Its own decisions, tick by tick, in the world that `dynamo_load.course` plays."""
    with running(DYNAMO, "dynamo_planner") as process:
        for usage in (dynamo_load.filled, dynamo_load.in_proportion):
            reference = reference_counts(process, {"plan": "load"}, usage)
            assert reference == our_course(dynamo_load.threshold_step, usage)


def test_dynamos_latency_planner_agrees() -> None:
    with running(DYNAMO, "dynamo_planner") as process:
        for usage in (dynamo_load.filled, dynamo_load.in_proportion):
            reference = reference_counts(process, {"plan": "latency", "engine": ENGINE}, usage)
            assert reference == our_course(dynamo_load.latency_step, usage)
            assert len(set(reference)) > 1, "a course that moves"


def test_dynamos_latency_planner_agrees_on_single_decisions() -> None:
    random = np.random.default_rng(5)
    with running(DYNAMO, "dynamo_planner") as process:
        for _ in range(300):
            workers, usage = int(random.integers(1, 30)), float(random.uniform(0, 1.3))
            request = {"plan": "latency", "engine": ENGINE, **alike(workers, usage)}
            reported = process.send(request)["replicas"]
            assert (reported or workers) == dynamo_load.latency_step(workers, usage)


def test_dynamos_hybrid_reaches_the_floor_at_the_next_tick() -> None:
    random = np.random.default_rng(6)
    with running(DYNAMO, "dynamo_planner") as process:
        for _ in range(300):
            workers, usage = int(random.integers(1, 30)), float(random.uniform(0, 1.3))
            requests, rps = float(random.gamma(2, 1500)), float(random.uniform(0.5, 5))
            request = {
                "plan": "hybrid",
                "engine": ENGINE,
                **alike(workers, usage),
                "requests": requests,
                "interval": 180,
                "engine_rps": rps,
            }
            reported = process.send(request)["replicas"]
            floor = dynamo.throughput_step(requests, 180, rps)
            assert (reported or workers) == dynamo_load.latency_step(workers, usage, floor)


def alike(workers: int, usage: float) -> dict[str, object]:
    """So many workers, none of them on its way, with equally full caches."""
    return {"workers": workers, "expected": workers, "usage": [usage] * workers}


def reference_counts(
    process: ReferenceProcess, request: dict[str, object], usage: Callable[[float], float]
) -> list[int]:
    """What its load loop does in the world of `DEMAND_IN_REPLICAS`: a look every 5 s, starts of `START` steps."""
    count, counts = 3, [3]
    for value in DEMAND_IN_REPLICAS.tolist():
        ready = min(counts[-START - 1 :])
        for _ in range(3):
            used = [usage(value / ready)] * ready
            reported = process.send({**request, "workers": ready, "expected": count, "usage": used})
            count = reported["replicas"] or count
            ready = min(ready, count)
        counts.append(count)
    return counts[1:]


def our_course(step: dynamo_load.Step, usage: Callable[[float], float]) -> list[int]:
    course: list[int] = dynamo_load.simulate(DEMAND_IN_REPLICAS, 60, START, step, usage).tolist()
    return course


def test_holt_winters_agrees_with_statsmodels() -> None:
    """With the arguments of PHPA's script, in order of time and in the order of its code."""
    random = np.random.default_rng(7)
    with running(DYNAMO, "holt_winters") as process:
        for season in (2, 3, 6, 7, 12, 24, 96):
            for count in (phpa_holt_winters.fewest(season), 3 * season + 10, 7 * season + 11):
                for gains in (phpa_holt_winters.GAINS, (0.9, 0.9, 0.3), (0.5, 0.05, 0.3)):
                    history = [float(value) for value in random.integers(1, 40, count)]
                    for series in (history, phpa_holt_winters.upstream_order(history)):
                        request = {"series": series, "season": season, "gains": gains}
                        reported = phpa_holt_winters.next_value(series, season, gains)
                        assert reported == pytest.approx(
                            process.send(request)["predictions"], rel=1e-9, abs=1e-9
                        )


def test_ray_serve_agrees() -> None:
    start = 4
    with running(RAY, "ray_serve") as process:
        for seed in range(6):
            demand_in_replicas = np.array(drawn(seed, 240)) / 300 + 0.01
            ours = ray_serve.simulate(demand_in_replicas, 1_000_000, start)
            counts = [int(np.ceil(demand_in_replicas[0])), *ours.tolist()]
            inputs_by_step = [
                [
                    min(counts[max(0, step - start) : step + 1]),
                    2 * float(demand_in_replicas[step - 1 : step + 1].mean()),
                ]
                if step
                else [counts[0], 2 * float(demand_in_replicas[0])]
                for step in range(len(demand_in_replicas))
            ]
            request = {"period": 15, "target": 2.0, "first": counts[0], "steps": inputs_by_step}
            assert process.send(request)["targets"] == ours.tolist()

"""The imagined HorizontalPodAutoscaler keeps the rules of autoscaling/v2."""

import pytest

from r1_operator.plan.counterfactual import Reactive, step


def run(state: Reactive, demand: float | None, seconds: int, now: int = 0) -> list[int]:
    counts = []
    for t in range(now, now + seconds):
        state = step(state, demand, 7.0, 1, 100, float(t))
        counts.append(state.replicas)
    return counts


@pytest.mark.parametrize(
    ("demand", "replicas"),
    [(70.0, 10), (76.9, 10), (77.1, 12), (63.1, 10), (62.9, 10), (140.0, 20), (300.0, 20)],
)
def test_one_look_at_ten_replicas_of_seven(demand: float, replicas: int) -> None:
    # Inside 10 % it keeps; above it takes the ceiling, at most double; below it waits 300 s.
    assert step(Reactive(10), demand, 7.0, 1, 100, 0.0).replicas == replicas


def test_it_looks_every_15_s() -> None:
    counts = run(Reactive(1), 700.0, 61)
    assert [counts[t] for t in (0, 14, 15, 30, 45, 60)] == [5, 5, 10, 20, 40, 80]


def test_down_after_five_minutes_to_the_highest_recommendation() -> None:
    counts = run(Reactive(10), 7.0, 316)
    assert counts[299] == 10
    assert counts[300] == 1


def test_a_missing_metric_keeps_the_count() -> None:
    assert set(run(Reactive(10), None, 1000)) == {10}
    assert set(run(Reactive(10), float("nan"), 1000)) == {10}


def test_it_never_sleeps() -> None:
    state = Reactive(1)
    for t in range(0, 900, 15):
        state = step(state, 0.0, 7.0, 0, 10, float(t))
    assert state.replicas == 1


@pytest.mark.parametrize(
    ("replicas", "target", "expected"), [(3, 2150, 4), (5, 2867, 3), (3, 2900, 3)]
)
def test_figures_of_the_owner(replicas: int, target: float, expected: int) -> None:
    """A total of 8600 against a target per pod, before any window: kubernetes
    pkg/controller/podautoscaler/replica_calculator_test.go (Apache-2.0), external metrics."""
    found = step(Reactive(replicas), 8600, target, 1, 100, 0.0, down_window=0.0)
    assert found.replicas == expected

"""The simulated HorizontalPodAutoscaler follows the rules of autoscaling/v2."""

import pytest

from r1_operator.api.scaling import PolicyType
from r1_operator.plan.scaling.hpa_simulation import HpaRules, HpaState, simulate_sync
from r1_operator.plan.scaling.policy import RateLimit


def run(state: HpaState, demand: float | None, seconds: int, now: int = 0) -> list[int]:
    counts = []
    for t in range(now, now + seconds):
        state = simulate_sync(state, demand, 7.0, 1, 100, float(t))
        counts.append(state.replicas)
    return counts


@pytest.mark.parametrize(
    ("demand", "replicas"),
    [(70.0, 10), (76.9, 10), (77.1, 12), (63.1, 10), (62.9, 10), (140.0, 20), (300.0, 20)],
)
def test_one_look_at_ten_replicas_of_seven(demand: float, replicas: int) -> None:
    # Inside 10 % it keeps; above it takes the ceiling, at most double; below it waits 300 s.
    assert simulate_sync(HpaState(10), demand, 7.0, 1, 100, 0.0).replicas == replicas


def test_the_simulated_hpa_syncs_every_15_s() -> None:
    counts = run(HpaState(1), 700.0, 61)
    assert [counts[t] for t in (0, 14, 15, 30, 45, 60)] == [5, 5, 10, 20, 40, 80]


def test_down_after_five_minutes_to_the_highest_recommendation() -> None:
    counts = run(HpaState(10), 7.0, 316)
    assert counts[299] == 10
    assert counts[300] == 1


def test_a_missing_metric_keeps_the_count() -> None:
    assert set(run(HpaState(10), None, 1000)) == {10}
    assert set(run(HpaState(10), float("nan"), 1000)) == {10}


def test_a_tenth_above_is_still_near() -> None:
    # Kubernetes compares the ratio with 1.1, not the difference with .1: 1.1 - 1 is above .1.
    assert simulate_sync(HpaState(10), 77.0, 7.0, 1, 100, 0.0).replicas == 10
    assert (
        simulate_sync(HpaState(10), 63.0, 7.0, 1, 100, 0.0, HpaRules(down_window=0)).replicas == 10
    )


def test_a_count_outside_of_its_bounds_goes_to_the_bound_before_any_metric_counts() -> None:
    assert simulate_sync(HpaState(40), 7.0, 7.0, 1, 10, 0.0).replicas == 10
    below = simulate_sync(HpaState(1), 140.0, 7.0, 6, 30, 0.0)
    assert below.replicas == 6
    # The increase counts against the rate limit of the next 15 s.
    assert simulate_sync(below, 140.0, 7.0, 6, 30, 14.0, HpaRules(sync_seconds=0)).replicas == 6
    assert simulate_sync(below, 140.0, 7.0, 6, 30, 15.0).replicas == 12
    assert simulate_sync(HpaState(40), None, 7.0, 1, 10, 0.0).replicas == 10


def test_the_first_count_is_a_recommendation_even_when_the_metric_is_missing() -> None:
    state = simulate_sync(HpaState(6), None, 7.0, 1, 100, 0.0, HpaRules(down_window=60))
    counts = []
    for t in range(15, 75, 15):
        state = simulate_sync(state, 14.0, 7.0, 1, 100, float(t), HpaRules(down_window=60))
        counts.append(state.replicas)
    assert counts == [6, 6, 6, 2]


def test_at_no_replicas_it_does_nothing() -> None:
    assert simulate_sync(HpaState(0), 700.0, 7.0, 1, 100, 0.0).replicas == 0


def test_an_hpa_without_behavior_doubles_from_four_per_sync() -> None:
    rules = HpaRules(sync_seconds=1, has_behavior=False)
    state = HpaState(1)
    counts = []
    for t in range(5):
        state = simulate_sync(state, 420.0, 7.0, 1, 100, float(t), rules)
        counts.append(state.replicas)
    assert counts == [4, 8, 16, 32, 60]


def test_an_hpa_without_behavior_climbs_to_an_earlier_recommendation() -> None:
    plain, old = HpaRules(1), HpaRules(1, has_behavior=False)
    with_stanza, without = HpaState(2), HpaState(2)
    for t, worth in enumerate([50, 3, 3, 3, 3, 3]):
        with_stanza = simulate_sync(with_stanza, worth, 1.0, 1, 100, float(t), plain)
        without = simulate_sync(without, worth, 1.0, 1, 100, float(t), old)
    assert (with_stanza.replicas, without.replicas) == (6, 50)


def test_a_rise_drops_an_older_change_that_only_the_down_limit_counts() -> None:
    rules = HpaRules(
        1,
        down_window=0,
        up_limits=(RateLimit(PolicyType.PODS, 4, 2),),
        down_limits=(RateLimit(PolicyType.PERCENT, 50, 9),),
    )
    state = HpaState(10)
    counts = []
    for t, worth in [(0, 99), (3, 99), (6, 99), (7, 1)]:
        state = simulate_sync(state, worth, 1.0, 1, 100, float(t), rules)
        counts.append(state.replicas)
    # All three rises lie within the nine seconds, but the first two are no longer recorded: half of 18.
    assert counts == [14, 18, 22, 9]


def test_the_simulated_hpa_rises_to_the_lowest_of_its_up_window() -> None:
    rules = HpaRules(1, up_window=3, up_limits=(RateLimit(PolicyType.PODS, 100, 1),))
    state = HpaState(2)
    counts = []
    for t, worth in enumerate([9, 9, 4, 9, 8, 9]):
        state = simulate_sync(state, worth, 1.0, 1, 100, float(t), rules)
        counts.append(state.replicas)
    assert counts == [2, 2, 2, 4, 4, 8]


def test_the_simulated_hpa_never_scales_to_zero() -> None:
    state = HpaState(1)
    for t in range(0, 900, 15):
        state = simulate_sync(state, 0.0, 7.0, 0, 10, float(t))
    assert state.replicas == 1


@pytest.mark.parametrize(
    ("replicas", "target", "expected"), [(3, 2150, 4), (5, 2867, 3), (3, 2900, 3)]
)
def test_figures_of_the_kubernetes_unit_tests(replicas: int, target: float, expected: int) -> None:
    """A total of 8600 against a target per pod, before any window: kubernetes
    pkg/controller/podautoscaler/replica_calculator_test.go (Apache-2.0), external metrics."""
    next_state = simulate_sync(
        HpaState(replicas), 8600, target, 1, 100, 0.0, HpaRules(down_window=0)
    )
    assert next_state.replicas == expected

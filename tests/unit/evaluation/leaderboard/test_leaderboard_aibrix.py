"""AIBrix' autoscalers against their own unit tables, and what differs as they are written.

Figures of vllm-project/aibrix pkg/controller/podautoscaler/algorithm/{apa,kpa}_test.go at 2aff67a4
(Apache-2.0), those at the default rates.
"""

import numpy as np
import pytest

from r1_evaluation.baselines.contrib import aibrix


@pytest.mark.parametrize(
    ("count", "per_pod", "expected"),
    [(2, 45, 3), (2, 35, 3), (2, 90, 4), (6, 20, 4), (6, 18, 4), (6, 10, 3), (2, 33, 2), (2, 27, 2)],
)  # fmt: skip
def test_aibrix_apa_equals_the_upstream_tests(count: int, per_pod: float, expected: int) -> None:
    assert aibrix.apa_step(count, per_pod / 30.0) == expected


@pytest.mark.parametrize(
    ("count", "stable", "panic", "panicking", "highest", "expected"),
    [
        (2, 2.0, 2.0, False, 0, 2),
        (2, 3.0, 4.0, True, 2, 4),
        (5, 2.0, 2.0, True, 5, 5),
        (1, 0.0, 0.0, False, 0, 0),
        (4, 0.5, 0.5, False, 0, 2),
    ],
)
def test_aibrix_kpa_equals_the_upstream_tests(
    count: int, stable: float, panic: float, panicking: bool, highest: int, expected: int
) -> None:
    assert aibrix.kpa_step(count, stable, panic, panicking, highest)[0] == expected


def test_documented_scale_down_uses_the_highest_recommendation_and_upstream_the_lowest() -> None:
    assert aibrix.cooled_down(6, 8, [2, 7], upstream=False) == 7
    assert aibrix.cooled_down(6, 8, [2, 7], upstream=True) == 2
    assert aibrix.cooled_down(6, 8, [2] + [7] * 19, upstream=True) == 6  # 300 s ago is over
    assert aibrix.cooled_down(9, 8, [2, 30], upstream=True) == 9  # up waits for nothing


def test_upstream_kpa_uses_a_mean_as_a_total() -> None:
    # Ten pods a fifth above their target: twelve are meant, written is half.
    assert aibrix.kpa_step(10, 12.0, 12.0, False, 0)[0] == 12
    assert aibrix.kpa_step(10, 1.2, 1.2, False, 0, upstream=True)[0] == 5
    # Within a tenth of its target both stand still.
    assert aibrix.kpa_step(10, 10.9, 10.9, False, 0)[0] == 10
    assert aibrix.kpa_step(10, 1.09, 1.09, False, 0, upstream=True)[0] == 10


def test_upstream_kpa_drops_the_highest_count_of_a_panic() -> None:
    demand_in_replicas = np.concatenate([np.full(40, 4.0), np.full(3, 30.0), np.full(30, 4.0)])
    meant = aibrix.kpa(demand_in_replicas, 60)
    assert meant[42] > meant[39]
    written = aibrix.kpa(demand_in_replicas, 60, upstream=True)
    assert written[-1] < meant[-1]

"""llm-d's WVA against its own unit tables.

Figures of llm-d/llm-d-workload-variant-autoscaler at b08b1c77 (Apache-2.0):
internal/saturation/analyzer_test.go, internal/engines/analyzers/saturation_v2/analyzer_test.go and
internal/engines/pipeline/cost_aware_optimizer_test.go, of the last those with one variant.
"""

import numpy as np
import pytest

from r1_evaluation.baselines.contrib import wva

PER_REPLICA = 12_800.0
"""Tokens: .80 of a KV cache of 16,000."""


@pytest.mark.parametrize(
    ("kv", "queue", "up"),
    [
        ([0.75, 0.76], [2, 2], True),  # .045 of the cache to spare
        ([0.50, 0.50], [3, 3], True),  # two of the queue to spare
        ([0.50, 0.50], [1, 1], False),
        ([0.85, 0.50, 0.90], [2, 6, 7], True),  # all are saturated
    ],
)
def test_wva_v1_adds_one_replica_when_spare_capacity_is_low(
    kv: list[float], queue: list[float], up: bool
) -> None:
    assert wva.v1_verdict(wva.spare(kv, queue))[0] == up


@pytest.mark.parametrize(
    ("kv", "queue", "safe"),
    [
        ([0.20, 0.30, 0.25], [1, 1, 1], True),
        ([0.70, 0.75], [2, 2], False),
        ([0.50], [2], False),  # alone
        ([0.85, 0.50, 0.90], [2, 6, 7], False),
    ],
)
def test_wva_v1_removes_one_replica_when_the_rest_suffices(
    kv: list[float], queue: list[float], safe: bool
) -> None:
    assert wva.v1_verdict(wva.spare(kv, queue))[1] == safe


def test_wva_v1_ignores_saturated_replicas() -> None:
    assert wva.spare([0.85, 0.50, 0.60], [2, 6, 2]).replicas == 1
    assert wva.spare([0.85, 0.50, 0.90], [2, 6, 7]) == wva.Spare(0, 0.0, 0.0)
    assert wva.spare([0.70, 0.75, 0.60, 0.65], [2, 3, 1, 2]).replicas == 4


def test_wva_v1_changes_by_one_and_waits_for_starting_replicas() -> None:
    full, idle = wva.Spare(2, 0.04, 1.0), wva.Spare(3, 0.55, 4.0)
    assert wva.v1_step(2, 2, full) == 3
    assert wva.v1_step(3, 3, idle) == 2
    assert wva.v1_step(3, 2, full) == 3


@pytest.mark.parametrize(
    ("demand", "ready", "pending", "required", "to_spare"),
    [
        (11_300, 1, 0, True, False),  # 11,000 in use and three times 100 that wait
        (2_000, 2, 0, False, True),
        (10_000, 1, 0, False, False),  # .78 lies between .70 and .85
        (10_000, 1, 1, False, False),  # what is pending counts already
        (1_000, 2, 1, False, True),
    ],
)
def test_wva_v2_signals(
    demand: float, ready: int, pending: int, required: bool, to_spare: bool
) -> None:
    signals = wva.v2_signals(demand, PER_REPLICA, ready, pending)
    assert tuple(signal > 0 for signal in signals) == (required, to_spare)


@pytest.mark.parametrize(
    ("count", "required", "to_spare", "per_replica", "expected"),
    [
        (2, 5_000, 0, 10_000, 3),
        (1, 5_000, 0, 10_000, 2),
        (1, 25_000, 0, 10_000, 4),
        (2, 0, 10_000, 10_000, 1),
        (3, 0, 15_000, 10_000, 2),
        (2, 0, 15_000, 20_000, 2),  # less than one replica
        (1, 0, 30_000, 10_000, 1),  # the last one stays
        (2, 0, 0, 10_000, 2),
        (0, 5_000, 0, 0, 0),  # no capacity is known
    ],
)
def test_wva_v2_optimizer(
    count: int, required: float, to_spare: float, per_replica: float, expected: int
) -> None:
    assert wva.v2_step(count, required, to_spare, per_replica) == expected


def test_wva_v1_rises_by_one_and_v2_at_once() -> None:
    load = np.concatenate([np.full(40, 2.0), np.full(80, 12.0)])
    first, second = wva.v1(load, 0.7, 60, 4), wva.v2(load, 0.7, 60, 4)
    assert set(np.diff(first)[39:].tolist()) <= {0, 1}
    assert int(np.diff(second)[39:].max()) > 5
    assert first[46] <= 5, "one each time the one before serves"
    assert second[46] >= 17

"""Bindable with schedulable capacity that is known, pending or unavailable."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from r1_common.contracts.unavailable import Unavailable
from r1_operator.plan.placement.schedulable import NODES_PENDING, Placement, SchedulableCapacity
from r1_operator.plan.scaling.limiters import LimiterInput, keep_to_schedulable
from r1_operator.plan.scaling.policy import ScalingPolicy
from r1_operator.plan.scaling.reasons import DecisionReason
from r1_operator.plan.scaling.scaling_state import ScalingState

BLIND = Unavailable("NodesForbidden", "The operator may not list nodes.")
Asked = Callable[..., tuple[int, str]]


@pytest.fixture
def limited() -> Asked:
    """Allowed count and message when `wanted` are needed and four exist."""

    def ask(placement: Placement, wanted: int = 9, current: int = 4, **policy: Any) -> Any:
        whole = replace(ScalingPolicy(1, 20, (), bindable=True), **policy)
        situation = LimiterInput(
            whole, ScalingState(), 0.0, current, (), False, placement=placement
        )
        limit = keep_to_schedulable(situation, wanted)
        assert limit is None or limit.reason is DecisionReason.INSUFFICIENT_CAPACITY
        return (wanted, "") if limit is None else (limit.replicas, limit.message)

    return ask


def test_a_scale_up_is_limited_to_schedulable_and_pending_replicas(limited: Asked) -> None:
    count, words = limited(Placement(placed=4, schedulable=SchedulableCapacity(2, {2: 1}, 1)))
    assert count == 7
    assert words == (
        "7 replicas for now: 6 of the 9 needed fit on nodes (1 node fits 2). 1 more may wait for a node "
        "(pendingReplicas)."
    )


def test_no_replica_may_wait_for_a_node(limited: Asked) -> None:
    count, words = limited(
        Placement(placed=4, schedulable=SchedulableCapacity(2, {1: 2}, 2)), pending_replicas=0
    )
    assert (count, words) == (
        6,
        "6 replicas for now: 6 of the 9 needed fit on nodes (2 nodes fit 1).",
    )


def test_enough_schedulable_capacity_does_not_limit(limited: Asked) -> None:
    assert limited(Placement(placed=4, schedulable=SchedulableCapacity(5, {5: 1}, 1))) == (9, "")
    assert limited(Placement(placed=4, schedulable=SchedulableCapacity(4, {4: 1}, 1))) == (9, "")


def test_pending_replicas_count_against_pending_replicas(limited: Asked) -> None:
    count, _ = limited(
        Placement(placed=3, unschedulable=1, schedulable=SchedulableCapacity(0, {}, 2))
    )
    assert count == 4


def test_the_schedulable_limit_never_scales_down(limited: Asked) -> None:
    """Replicas that lost their node stay queued; a scale-down follows its own policy."""
    empty = Placement(placed=0, unschedulable=4, schedulable=SchedulableCapacity(0))
    assert limited(empty, wanted=4) == (4, "")
    assert limited(empty, wanted=3) == (3, "")
    assert limited(empty, wanted=9)[0] == 4


def test_the_minimum_ignores_schedulable_capacity(limited: Asked) -> None:
    count, words = limited(
        Placement(placed=4, schedulable=SchedulableCapacity(0, {}, 2)), min_replicas=7
    )
    assert count == 7
    assert words.startswith("7 replicas for now: 4 of the 9 needed fit on nodes")


def test_a_scale_up_waits_for_the_first_node_list(limited: Asked) -> None:
    assert limited(Placement(placed=4, schedulable=NODES_PENDING))[0] == 4


def test_unschedulable_pods_limit_a_scale_up_without_node_access(limited: Asked) -> None:
    assert limited(Placement(placed=4, schedulable=BLIND)) == (9, "")
    count, words = limited(Placement(placed=4, unschedulable=3, schedulable=BLIND), current=7)
    assert (count, words) == (
        7,
        "7 replicas for now: demand needs 9. 3 pods are unschedulable; The operator may not list nodes.",
    )


def test_the_unlimited_policy_ignores_schedulable_capacity(limited: Asked) -> None:
    assert limited(
        Placement(placed=4, unschedulable=3, schedulable=SchedulableCapacity(0)), bindable=False
    ) == (
        9,
        "",
    )
    assert limited(Placement()) == (9, "")

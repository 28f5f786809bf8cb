"""Bindable: what it asks for when room is known, not known yet, and not to be had."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from r1_operator.plan.placement.schedulable import NOT_SEEN_YET, Placement, SchedulableCapacity
from r1_operator.plan.scaling.limiters import LimiterInput, keep_to_schedulable
from r1_operator.plan.scaling.policy import ScalingPolicy
from r1_operator.plan.scaling.reasons import DecisionReason
from r1_operator.plan.scaling.scaling_state import ScalingState
from r1_operator.plan.unavailable import Unavailable

BLIND = Unavailable("NodesForbidden", "The operator may not list nodes.")
Asked = Callable[..., tuple[int, str]]


@pytest.fixture
def asked() -> Asked:
    """What is asked for, and in which words, when `wanted` are needed and four are there."""

    def ask(placement: Placement, wanted: int = 9, current: int = 4, **policy: Any) -> Any:
        whole = replace(ScalingPolicy(1, 20, (), bindable=True), **policy)
        situation = LimiterInput(
            whole, ScalingState(), 0.0, current, (), False, placement=placement
        )
        limit = keep_to_schedulable(situation, wanted)
        assert limit is None or limit.reason is DecisionReason.INSUFFICIENT_CAPACITY
        return (wanted, "") if limit is None else (limit.replicas, limit.message)

    return ask


def test_what_binds_and_one_that_may_wait(asked: Asked) -> None:
    count, words = asked(Placement(placed=4, room=SchedulableCapacity(2, {2: 1}, 1)))
    assert count == 7
    assert words == (
        "7 for now: 6 of the 9 wanted can bind now (1 node has room for 2). 1 may wait for a node."
    )


def test_none_may_wait(asked: Asked) -> None:
    count, words = asked(
        Placement(placed=4, room=SchedulableCapacity(2, {1: 2}, 2)), pending_replicas=0
    )
    assert (count, words) == (
        6,
        "6 for now: 6 of the 9 wanted can bind now (2 nodes have room for 1).",
    )


def test_enough_room_is_no_limit(asked: Asked) -> None:
    assert asked(Placement(placed=4, room=SchedulableCapacity(5, {5: 1}, 1))) == (9, "")
    assert asked(Placement(placed=4, room=SchedulableCapacity(4, {4: 1}, 1))) == (9, "")


def test_replicas_that_wait_already_take_the_places_that_may_wait(asked: Asked) -> None:
    count, _ = asked(Placement(placed=3, stuck=1, room=SchedulableCapacity(0, {}, 2)))
    assert count == 4


def test_it_lowers_nothing(asked: Asked) -> None:
    """Replicas that lost their node keep their turn; a fall is the down policy's affair."""
    empty = Placement(placed=0, stuck=4, room=SchedulableCapacity(0))
    assert asked(empty, wanted=4) == (4, "")
    assert asked(empty, wanted=3) == (3, "")
    assert asked(empty, wanted=9)[0] == 4


def test_the_minimum_waits_for_no_room(asked: Asked) -> None:
    count, words = asked(Placement(placed=4, room=SchedulableCapacity(0, {}, 2)), min_replicas=7)
    assert count == 7
    assert words.startswith("7 for now: 4 of the 9 wanted can bind now")


def test_a_rise_waits_for_the_first_look_which_takes_a_moment(asked: Asked) -> None:
    assert asked(Placement(placed=4, room=NOT_SEEN_YET))[0] == 4


def test_without_sight_the_pods_own_word_counts(asked: Asked) -> None:
    assert asked(Placement(placed=4, room=BLIND)) == (9, "")
    count, words = asked(Placement(placed=4, stuck=3, room=BLIND), current=7)
    assert (count, words) == (
        7,
        "7 for now: 9 are wanted. 3 pods find no node; The operator may not list nodes.",
    )


def test_unlimited_asks_for_all(asked: Asked) -> None:
    assert asked(Placement(placed=4, stuck=3, room=SchedulableCapacity(0)), bindable=False) == (
        9,
        "",
    )
    assert asked(Placement()) == (9, "")

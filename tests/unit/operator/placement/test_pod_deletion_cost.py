"""Victims of a scale-down: idle pods, written only where the cost changes the outcome."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway_samples import silent
from r1_common.contracts.unavailable import Unavailable
from r1_operator.plan.placement.pod_deletion_cost import (
    VICTIM_COST,
    DeletionCost,
    plan_deletion_costs,
    pod_loads,
)
from r1_operator.plan.signals.counter_sample import CounterSample
from r1_operator.plan.snapshot import Pod

HASH = "pod-template-hash"


def pod(
    name: str, *, ready: bool = True, born: float = 0.0, revision: str = "a", **more: Any
) -> Pod:
    """A pod whose address is `10.0.0.<name>`."""
    made = Pod(
        name=name,
        uid=f"uid-{name}",
        phase="Running",
        ready=ready,
        created_at=born,
        address=f"10.0.0.{name}",
        labels={HASH: revision},
    )
    return replace(made, **more)


def loads(**by_name: float) -> dict[str, float]:
    return {f"10.0.0.{name[1:]}": load for name, load in by_name.items()}


def planned(
    pods: tuple[Pod, ...], wanted: int, load: dict[str, float] | Unavailable
) -> dict[str, int | None]:
    return {each.pod.name: each.cost for each in plan_deletion_costs(pods, load, wanted)}


def test_the_idle_pod_goes_and_the_busy_ones_are_left_alone() -> None:
    pods = (pod("1"), pod("2"), pod("3"))
    assert planned(pods, 2, loads(_1=4, _2=0, _3=2)) == {"2": VICTIM_COST}
    assert planned(pods, 1, loads(_1=4, _2=0, _3=2)) == {"2": VICTIM_COST, "3": VICTIM_COST}


def test_a_pod_that_no_gateway_has_used_is_idle() -> None:
    assert planned((pod("1"), pod("2")), 1, loads(_1=1)) == {"2": VICTIM_COST}


@pytest.mark.parametrize("wanted", [0, 3, 5])
def test_nobody_is_marked_where_all_go_or_all_stay(wanted: int) -> None:
    assert planned((pod("1"), pod("2"), pod("3")), wanted, loads(_1=4, _3=2)) == {}


def test_equal_loads_need_no_mark() -> None:
    assert planned((pod("1"), pod("2"), pod("3")), 1, loads()) == {}
    assert planned((pod("1"), pod("2")), 1, loads(_1=3, _2=3)) == {}


def test_pods_that_are_not_ready_go_first_by_themselves() -> None:
    pods = (pod("1"), pod("2"), pod("3", ready=False))
    assert planned(pods, 2, loads(_1=4)) == {}
    assert planned(pods, 1, loads(_1=4)) == {"2": VICTIM_COST}


def test_pods_that_have_ended_or_are_ending_count_for_nothing() -> None:
    pods = (pod("1"), pod("2"), pod("3", deleted_at=1.0), pod("4", ready=False, phase="Failed"))
    assert planned(pods, 2, loads(_1=4, _3=9)) == {}
    assert planned(pods, 1, loads(_1=4, _3=9)) == {"2": VICTIM_COST}


def test_among_equals_the_youngest_goes_because_its_cache_is_the_coldest() -> None:
    pods = (pod("1", born=10), pod("2", born=30), pod("3", born=20), pod("4", born=5))
    assert planned(pods, 3, loads(_4=1)) == {"2": VICTIM_COST}


def test_a_pod_with_a_deletion_cost_is_not_written_again() -> None:
    pods = (pod("1", born=10, deletion_cost=VICTIM_COST), pod("2", born=30), pod("3"))
    assert planned(pods, 2, loads(_3=1)) == {}


def test_a_mark_from_an_earlier_fall_is_taken_off_a_pod_that_is_busy_now() -> None:
    pods = (pod("1", deletion_cost=VICTIM_COST), pod("2"), pod("3"))
    assert planned(pods, 2, loads(_1=5, _3=1)) == {"1": None, "2": VICTIM_COST}


def test_a_foreign_pod_deletion_cost_stays() -> None:
    assert planned((pod("1", deletion_cost=7), pod("2")), 1, loads(_1=5)) == {"2": VICTIM_COST}


def test_during_a_rollout_each_replica_set_gets_its_own_victims() -> None:
    pods = (pod("1"), pod("2"), pod("3", revision="b"), pod("4", revision="b"))
    assert planned(pods, 3, loads(_1=2, _4=2)) == {"2": VICTIM_COST, "3": VICTIM_COST}


def test_unknown_loads_mark_no_pod() -> None:
    silent = Unavailable("GatewayUnreachable", "gw-1 does not answer.")
    assert plan_deletion_costs((pod("1"), pod("2")), silent, 1) == ()


def test_a_cost_says_what_for() -> None:
    (cost,) = plan_deletion_costs((pod("1"), pod("2")), loads(_1=4), 1)
    assert cost == DeletionCost(pod("2"), VICTIM_COST, 0.0)


def sample(gateway: str, pods: dict[str, float] | None) -> CounterSample:
    return silent(gateway=gateway, in_flight_by_pod=pods)


class TestLoads:
    def test_are_summed_over_gateways(self) -> None:
        samples = [sample("a", {"10.0.0.1": 2.0}), sample("b", {"10.0.0.1": 1.0, "10.0.0.2": 0.0})]
        assert pod_loads(samples, gateways={"a", "b"}, silent=()) == {
            "10.0.0.1": 3.0,
            "10.0.0.2": 0.0,
        }

    def test_are_not_known_while_a_gateway_is_silent(self) -> None:
        answer = pod_loads([sample("a", {"10.0.0.1": 0.0})], gateways={"a", "b"}, silent=("b",))
        assert isinstance(answer, Unavailable)
        assert "b" in answer.message

    def test_are_not_known_without_a_gateway(self) -> None:
        assert isinstance(pod_loads([], gateways=(), silent=()), Unavailable)

    def test_loads_are_unknown_for_a_gateway_of_an_older_release(self) -> None:
        answer = pod_loads([sample("a", None)], gateways={"a"}, silent=())
        assert isinstance(answer, Unavailable)
        assert answer.reason == "NotReported"

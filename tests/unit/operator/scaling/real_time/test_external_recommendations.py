"""External metrics in a decision: a value per replica, and no scale-down without one."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1_common.contracts.unavailable import Unavailable
from r1_operator.api.scaling import MetricType
from r1_operator.plan.scaling.decide import decide
from r1_operator.plan.scaling.decision import Decision
from r1_operator.plan.scaling.inputs import ScalingInputs
from r1_operator.plan.scaling.policy import MetricTarget, ScalingPolicy
from r1_operator.plan.scaling.real_time.recommendations import (
    Recommendation,
    external_recommendations,
)
from r1_operator.plan.scaling.reasons import DecisionReason
from r1_operator.plan.scaling.scaling_state import ScalingState
from r1_operator.plan.signals.demand import Demand
from r1_operator.plan.unavailable import LowerBound

CACHE = MetricTarget(MetricType.EXTERNAL, 0.8, name="cache", query="sum(up)")
START = 1_700_000_000.0
IDLE = Demand(0.0, 0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize(("value", "replicas"), [(0.0, 0), (0.8, 1), (0.81, 2), (8.0, 10)])
def test_the_target_stands_as_it_is(value: float, replicas: int) -> None:
    policy = ScalingPolicy(1, 9, (CACHE,), target_utilization=0.5)
    [need] = external_recommendations(policy, {"External/cache": value})
    assert isinstance(need, Recommendation)
    assert (need.replicas, need.reason) == (replicas, DecisionReason.EXTERNAL_METRIC)
    assert need.clause.startswith("External/cache is ")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_a_value_from_which_no_count_follows(value: float) -> None:
    [need] = external_recommendations(ScalingPolicy(1, 9, (CACHE,)), {"External/cache": value})
    assert isinstance(need, Unavailable)
    assert need.reason == "InvalidMetric"


def test_two_of_them_and_a_load_the_highest_wins(demand: Callable[..., Any]) -> None:
    other = MetricTarget(MetricType.EXTERNAL, 10.0, name="jobs", query="sum(jobs)")
    policy = ScalingPolicy(
        1, 20, (MetricTarget(MetricType.REQUESTS_PER_SECOND, 10.0), CACHE, other)
    )
    values: dict[str, float | LowerBound | Unavailable] = {
        "External/cache": 2.0,
        "External/jobs": 65.0,
    }
    inputs = ScalingInputs(5, 5, demand(20.0), external=values)
    decision, _ = decide(policy, inputs, ScalingState(), START)
    assert (decision.replicas, decision.reason) == (7, DecisionReason.EXTERNAL_METRIC)
    assert decision.message == "7 replicas: External/jobs is 65 and needs 7 at 10 per replica."
    assert decision.inputs["external"] == {"External/cache": 2.0, "External/jobs": 65.0}


@pytest.mark.parametrize("down_for", [2, 400, 4000])
def test_an_outage_second_by_second_holds_the_count(
    demand: Callable[..., Any], down_for: int
) -> None:
    policy = ScalingPolicy(1, 20, (CACHE,))
    history, count, now = ScalingState(), 1, START
    gone = Unavailable("Unreachable", "Prometheus does not answer: refused.")
    for second in range(600 + down_for):
        value = 6.0 if second < 600 else gone
        inputs = ScalingInputs(count, count, demand(0.0), external={"External/cache": value})
        decision, history = decide(policy, inputs, history, now + second)
        count = decision.replicas
    assert count == 8
    assert decision.reason is DecisionReason.METRICS_UNAVAILABLE
    assert "External/cache: Prometheus does not answer" in decision.message
    for second in range(600 + down_for, 1300 + down_for):
        inputs = ScalingInputs(count, count, demand(0.0), external={"External/cache": 0.4})
        decision, history = decide(policy, inputs, history, now + second)
        count = decision.replicas
    assert count == 1


PARTIAL = "Prometheus returned partial data: store-1 is gone."


def partial_decision(demand: Callable[..., Any], current: int, value: float) -> Decision:
    """The decision for a lower bound of `value`, an hour after the last change."""
    policy, history = ScalingPolicy(1, 20, (CACHE,)), ScalingState()
    for second in range(0, 3600, 30):
        bound = {"External/cache": LowerBound(value, PARTIAL)}
        inputs = ScalingInputs(current, current, demand(0.0), external=bound)
        decision, history = decide(policy, inputs, history, START + second)
        if decision.replicas != current:
            break
    return decision


@settings(max_examples=20)
@given(st.integers(1, 20), st.floats(0.0, 30.0))
def test_a_lower_bound_may_raise_the_count_and_never_lowers_it(current: int, value: float) -> None:
    decision = partial_decision(lambda _: IDLE, current, value)
    assert decision.replicas >= current


def test_a_lower_bound_raises_the_count_and_is_shown_as_one(demand: Callable[..., Any]) -> None:
    decision = partial_decision(demand, 2, 6.0)
    assert decision.replicas > 2
    assert decision.inputs["external"] == {
        "External/cache": {"atLeast": 6.0, "unavailable": "PartialData", "message": PARTIAL}
    }


def test_a_count_that_partial_data_keep_names_them(demand: Callable[..., Any]) -> None:
    decision = partial_decision(demand, 9, 0.8)
    assert decision.replicas == 9
    assert decision.reason is DecisionReason.METRICS_UNAVAILABLE
    assert PARTIAL in decision.message

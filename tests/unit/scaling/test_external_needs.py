"""External metrics in a decision: a value per replica, and silence that lowers nothing."""

from collections.abc import Callable
from typing import Any

import pytest

from r1_operator.api.scaling import MetricType
from r1_operator.plan.decision import Reason
from r1_operator.plan.history import History
from r1_operator.plan.needs import Need, external_needs
from r1_operator.plan.policy import Metric, ScalingPolicy
from r1_operator.plan.scaling import ScalingInputs, decide
from r1_operator.plan.unavailable import Unavailable

CACHE = Metric(MetricType.EXTERNAL, 0.8, name="cache", query="sum(up)")
START = 1_700_000_000.0


@pytest.mark.parametrize(("value", "replicas"), [(0.0, 0), (0.8, 1), (0.81, 2), (8.0, 10)])
def test_the_target_stands_as_it_is(value: float, replicas: int) -> None:
    policy = ScalingPolicy(1, 9, (CACHE,), target_utilization=0.5)
    [need] = external_needs(policy, {"External/cache": value})
    assert isinstance(need, Need)
    assert (need.replicas, need.reason) == (replicas, Reason.EXTERNAL_METRIC)
    assert need.clause.startswith("External/cache of ")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_a_value_from_which_no_count_follows(value: float) -> None:
    [need] = external_needs(ScalingPolicy(1, 9, (CACHE,)), {"External/cache": value})
    assert isinstance(need, Unavailable)
    assert need.reason == "InvalidMetric"


def test_two_of_them_and_a_load_the_highest_wins(demand: Callable[..., Any]) -> None:
    other = Metric(MetricType.EXTERNAL, 10.0, name="jobs", query="sum(jobs)")
    policy = ScalingPolicy(1, 20, (Metric(MetricType.REQUESTS_PER_SECOND, 10.0), CACHE, other))
    values: dict[str, float | Unavailable] = {"External/cache": 2.0, "External/jobs": 65.0}
    inputs = ScalingInputs(5, 5, demand(20.0), external=values)
    decision, _ = decide(policy, inputs, History(), START)
    assert (decision.replicas, decision.reason) == (7, Reason.EXTERNAL_METRIC)
    assert decision.message == "7: External/jobs of 65 needs 7 at 10 each."
    assert decision.inputs["external"] == {"External/cache": 2.0, "External/jobs": 65.0}


@pytest.mark.parametrize("down_for", [2, 400, 4000])
def test_an_outage_second_by_second_holds_the_count(
    demand: Callable[..., Any], down_for: int
) -> None:
    policy = ScalingPolicy(1, 20, (CACHE,))
    history, count, now = History(), 1, START
    gone = Unavailable("Unreachable", "Prometheus does not answer: refused.")
    for second in range(600 + down_for):
        value = 6.0 if second < 600 else gone
        inputs = ScalingInputs(count, count, demand(0.0), external={"External/cache": value})
        decision, history = decide(policy, inputs, history, now + second)
        count = decision.replicas
    assert count == 8
    assert decision.reason is Reason.METRICS_UNAVAILABLE
    assert "External/cache: Prometheus does not answer" in decision.message
    for second in range(600 + down_for, 1300 + down_for):
        inputs = ScalingInputs(count, count, demand(0.0), external={"External/cache": 0.4})
        decision, history = decide(policy, inputs, history, now + second)
        count = decision.replicas
    assert count == 1

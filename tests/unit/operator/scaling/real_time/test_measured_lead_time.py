"""Start-up times measured from pods: selection, bounds, and the effect of a long one."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1_operator.api.scaling import ClassName, MetricType
from r1_operator.plan.scaling.policy import MetricTarget, ScalingPolicy
from r1_operator.plan.scaling.real_time.latency_objectives import (
    LatencyMemory,
    ServiceModel,
    latency_recommendation,
)
from r1_operator.plan.scaling.real_time.recommendations import (
    Recommendation,
    backlog_recommendation,
)
from r1_operator.plan.signals.demand import Demand
from r1_operator.plan.signals.latencies import Latencies, Recent
from r1_operator.plan.signals.latency_histograms import LatencyHistogram
from r1_operator.plan.snapshot import Pod, read_pod
from r1_operator.sources.lead_time import (
    DEFAULT_SECONDS,
    LONGEST_NODE_WAIT_SECONDS,
    LONGEST_START_SECONDS,
    StartTimes,
)

TWO_DAYS = 195_602.0


def pod(
    uid: str = "a",
    *,
    waited: float = 0.0,
    prepared: float = 2.0,
    loaded: float = 58.0,
    budget: float | None = 600.0,
    **figures: Any,
) -> Pod:
    """Created at 1000; seconds until scheduled, container started, and ready."""
    started = 1000.0 + waited + prepared
    plain = Pod(
        name=uid,
        uid=uid,
        phase="Running",
        ready=True,
        created_at=1000.0,
        node="n",
        scheduled_at=1000.0 + waited,
        started_at=started,
        ready_at=started + loaded,
        startup_seconds=budget,
    )
    return replace(plain, **figures)


def measured(*pods: Pod) -> StartTimes:
    starts = StartTimes()
    starts.observe(pods)
    return starts


def test_a_pod_that_lost_ready_two_days_after_its_start_is_not_measured_after_a_restart() -> None:
    lead = measured(pod(loaded=TWO_DAYS)).lead(2.0)
    assert (lead.seconds, lead.samples) == (DEFAULT_SECONDS + 2.0, 0)
    lead = measured(pod("a", loaded=TWO_DAYS), pod("b"), pod("c")).lead(2.0)
    assert (lead.seconds, lead.samples) == (62.0, 2)


def test_the_wait_for_a_node_is_no_start_up_and_is_known_apart() -> None:
    lead = measured(pod(waited=7_200.0, loaded=88.0)).lead(2.0)
    assert lead.seconds == 92.0
    assert lead.node_wait_seconds == LONGEST_NODE_WAIT_SECONDS
    waits = [pod("a", waited=7_200.0), pod("b", waited=180.0), pod("c", waited=200.0)]
    lead = measured(*waits).lead(2.0)
    assert lead.node_wait_seconds == 200.0
    assert lead.from_request_seconds == 262.0


def test_one_outlier_within_the_budget_does_not_set_the_lead_time() -> None:
    assert measured(pod("a"), pod("b", loaded=590.0)).lead(2.0).seconds == 62.0
    slow = [pod("a"), pod("b", loaded=400.0), pod("c", loaded=420.0)]
    assert measured(*slow).lead(2.0).seconds == 424.0, "two slow starts are typical of a new node"


def test_a_restarted_container_or_an_unknown_node_time_is_not_measured() -> None:
    assert measured(pod(restarts=1), pod("b", scheduled_at=None)).seconds == ()


def test_clocks_of_two_machines_make_no_negative_start() -> None:
    assert measured(pod(prepared=-3600.0, loaded=60.0)).seconds == (0.0,)


def test_without_a_startup_probe_the_default_deadline_bounds_a_start() -> None:
    assert measured(pod(budget=None, loaded=50_000.0)).seconds == ()
    assert measured(pod(budget=None, started_at=None, ready_at=9_000.0)).seconds == ()


@settings(max_examples=100, deadline=None)
@given(
    pods=st.lists(
        st.tuples(
            st.floats(-4000, 1e6), st.floats(-4000, 1e6), st.floats(-4000, 1e6), st.integers(0, 2)
        ),
        max_size=30,
    )
)
def test_whatever_the_pods_say_the_lead_time_is_bounded(
    pods: list[tuple[float, float, float, int]],
) -> None:
    lead = measured(
        *(
            pod(str(number), waited=waited, prepared=prepared, loaded=loaded, restarts=restarts)
            for number, (waited, prepared, loaded, restarts) in enumerate(pods)
        )
    ).lead(2.0)
    assert 2.0 <= lead.seconds <= LONGEST_START_SECONDS + 2.0
    assert 0.0 <= lead.node_wait_seconds <= LONGEST_NODE_WAIT_SECONDS


def test_each_of_many_pods_is_measured_once() -> None:
    many = [pod(str(number)) for number in range(500)]
    starts = measured(*many)
    before = starts.seconds
    starts.observe([replace(one, ready_at=(one.ready_at or 0.0) + 500.0) for one in many])
    assert starts.seconds == before


def test_the_startup_budget_is_read_from_the_pod() -> None:
    container = {"name": "engine", "startupProbe": {"periodSeconds": 5, "failureThreshold": 120}}
    side = {"name": "side", "startupProbe": {"failureThreshold": 1}}
    obj: dict[str, Any] = {"metadata": {"name": "a"}, "spec": {"containers": [side, container]}}
    assert read_pod(obj).startup_seconds == 600.0
    obj["spec"]["containers"] = [{"name": "engine"}]
    assert read_pod(obj).startup_seconds is None


STUCK = {
    "requests_per_second": 1.0,
    "in_flight": 24.0,
    "queued": 500.0,
    "oldest_wait_seconds": 400.0,
    "completed_per_replica": 0.5,
    "seats": 24.0,
}


@pytest.mark.parametrize("lead", [7_292.0, 195_602.0])
def test_a_long_lead_time_does_not_excuse_a_backlog_of_500(
    demand: Callable[..., Demand], lead: float
) -> None:
    need = backlog_recommendation(ScalingPolicy(1, 99, ()), demand(**STUCK), 3, 3, 8, lead)
    assert need is not None
    assert need.replicas > 3


@pytest.mark.parametrize("lead", [7_292.0, 195_602.0])
def test_a_long_lead_time_does_not_excuse_a_missed_time_to_first_token(
    demand: Callable[..., Demand], lead: float
) -> None:
    metric = MetricTarget(MetricType.TIME_TO_FIRST_TOKEN, 1000.0)
    late = LatencyHistogram((1.0, 1000.0), (0.0, 50.0, 0.0), 50 * 400.0)
    latencies = Latencies(first_token={ClassName.Q2: Recent(late, 30.0)})
    service = ServiceModel(demand(**STUCK), 3, 3, lead)
    memory = LatencyMemory(serving=3, since=0.0)
    need, _ = latency_recommendation(metric, latencies, service, memory, 10_000.0)
    assert isinstance(need, Recommendation)
    assert need.replicas > 3

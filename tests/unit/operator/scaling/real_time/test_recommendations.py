"""Recommendations per metric, without limiters."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from r1_common.contracts.unavailable import Unavailable
from r1_operator.api.scaling import MetricType
from r1_operator.plan.scaling.policy import MetricTarget, ScalingPolicy, UpBehavior
from r1_operator.plan.scaling.real_time.recommendations import (
    backlog_recommendation,
    figure,
    metric_recommendations,
)
from r1_operator.plan.scaling.reasons import DecisionReason

type_ = MetricType


@pytest.mark.parametrize(
    ("metric", "figures", "required"),
    [
        (MetricTarget(type_.REQUESTS_PER_SECOND, 10), {"requests_per_second": 0.0}, 0),
        (MetricTarget(type_.REQUESTS_PER_SECOND, 10), {"requests_per_second": 0.01}, 1),
        (MetricTarget(type_.REQUESTS_PER_SECOND, 10), {"requests_per_second": 7.0}, 1),
        (MetricTarget(type_.REQUESTS_PER_SECOND, 10), {"requests_per_second": 7.01}, 2),
        (MetricTarget(type_.REQUESTS_PER_SECOND, 10), {"requests_per_second": 70.0}, 10),
        (MetricTarget(type_.REQUESTS_PER_SECOND, 0.5), {"requests_per_second": 1.0}, 3),
        (MetricTarget(type_.TOKENS_PER_SECOND, 1000), {"tokens_per_second": 2100.0}, 3),
        (MetricTarget(type_.TOKENS_PER_SECOND, 1000), {"tokens_per_second": 2101.0}, 4),
        (MetricTarget(type_.CONCURRENCY, 8), {"in_flight": 11.0, "queued": 0.0}, 2),
        (MetricTarget(type_.CONCURRENCY, 8), {"in_flight": 8.0, "queued": 4.0}, 3),
        (MetricTarget(type_.QUEUE_LENGTH, 10), {"queued": 10.0}, 1),
        (MetricTarget(type_.QUEUE_LENGTH, 10), {"queued": 11.0}, 2),
    ],
    ids=lambda value: value.type.value if isinstance(value, MetricTarget) else str(value),
)
def test_required_is_demand_over_what_a_replica_takes(
    demand: Callable[..., Any], metric: MetricTarget, figures: dict[str, float], required: int
) -> None:
    [need] = metric_recommendations(ScalingPolicy(1, 99, (metric,)), demand(**figures))
    assert not isinstance(need, Unavailable)
    assert need.replicas == required


def test_the_highest_of_several_metrics_wins(
    stage: Callable[..., Any], demand: Callable[..., Any]
) -> None:
    metrics = (
        MetricTarget(type_.REQUESTS_PER_SECOND, 10),
        MetricTarget(type_.TOKENS_PER_SECOND, 100),
        MetricTarget(type_.CONCURRENCY, 4),
    )
    decision = stage(metrics=metrics).once(demand(7.0, tokens_per_second=279.0, in_flight=5.0))
    assert (decision.replicas, decision.reason) == (4, DecisionReason.REAL_TIME_DEMAND)
    assert decision.message == "4 replicas: 279 tokens/s need 4 at 70% of 100 per replica."


@pytest.mark.parametrize("kind", [kind for kind in MetricType if MetricTarget(kind, 1).counted])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_an_impossible_figure_is_no_figure(
    demand: Callable[..., Any], kind: MetricType, value: float
) -> None:
    broken = demand(value, tokens_per_second=value, in_flight=value, queued=value)
    [need] = metric_recommendations(ScalingPolicy(1, 9, (MetricTarget(kind, 1),)), broken)
    assert isinstance(need, Unavailable)
    assert kind.value in need.message


class TestBacklog:
    """A queue raises the count even where the target gives fewer replicas."""

    def test_a_queue_wait_below_5_s_is_no_backlog(
        self, stage: Callable[..., Any], demand: Callable[..., Any]
    ) -> None:
        waiting = demand(1.0, queued=40.0, in_flight=8.0, oldest_wait_seconds=4.9)
        assert stage().once(waiting).replicas == 1

    def test_a_backlog_recommends_the_replicas_that_drain_it_at_the_measured_throughput(
        self, stage: Callable[..., Any], demand: Callable[..., Any]
    ) -> None:
        # The target is 10/s per replica; they complete 1/s. 3 arrive, 60 are queued: (3 + 60/30) / 1.
        waiting = demand(
            3.0, queued=60.0, in_flight=8.0, oldest_wait_seconds=9.0, completed_per_replica=1.0
        )
        decision = stage().once(waiting)
        assert (decision.replicas, decision.reason) == (5, DecisionReason.QUEUE_BACKLOG)
        assert "60 requests are queued, the oldest for 9 s" in decision.message

    def test_a_backlog_never_recommends_more_than_one_seat_per_request(
        self, stage: Callable[..., Any], demand: Callable[..., Any]
    ) -> None:
        waiting = demand(
            3.0, queued=16.0, in_flight=8.0, oldest_wait_seconds=9.0, completed_per_replica=0.01
        )
        assert stage().once(waiting, seats=8).replicas == 3

    def test_pods_that_start_are_the_answer_already(
        self, stage: Callable[..., Any], demand: Callable[..., Any]
    ) -> None:
        nothing_done = Unavailable("NoReadyReplica", "No replica was ready in the window.")
        waiting = demand(
            0.0, queued=160.0, oldest_wait_seconds=9.0, completed_per_replica=nothing_done
        )
        decision = stage(replicas=4).once(waiting, ready=0)
        assert (decision.replicas, decision.reason) == (4, DecisionReason.QUEUE_BACKLOG)
        assert "and 4 of 4 replicas are starting" in decision.message

    def test_a_backlog_keeps_a_count_that_arrivals_alone_would_lower(
        self, stage: Callable[..., Any], demand: Callable[..., Any]
    ) -> None:
        story = stage(replicas=4)
        waiting = demand(
            0.1, queued=100.0, in_flight=32.0, oldest_wait_seconds=40.0, completed_per_replica=1.0
        )
        story.play(400, waiting)
        assert story.replicas == 4

    def test_a_backlog_grows_the_count_until_it_moves_again(
        self, stage: Callable[..., Any], demand: Callable[..., Any]
    ) -> None:
        """A target ten times too high: closed loop, one request a second and replica."""
        story = stage(up=UpBehavior(limits=()))
        queue = longest = wait = 0.0
        for _ in range(240):
            served = min(queue + 4.0, story.replicas * 1.0)
            queue += 4.0 - served
            longest = max(longest, queue)
            wait = queue / max(served, 0.1)
            reading = demand(
                4.0,
                queued=queue,
                in_flight=8.0 * story.replicas,
                oldest_wait_seconds=wait,
                completed_per_replica=served / story.replicas,
            )
            story.once(reading)
        assert wait < story.policy.backlog_threshold_seconds
        assert longest < 60
        assert 4 <= story.replicas <= 6


def test_figures_read_like_people_write_them() -> None:
    assert [figure(x) for x in (1234.5, 12.34, 1.234, 3.0, 0.05)] == [
        "1234",
        "12.3",
        "1.23",
        "3",
        "0.05",
    ]


def test_a_quotient_beyond_counting_stays_a_count(demand: Callable[..., Any]) -> None:
    policy = ScalingPolicy(1, 9, (MetricTarget(type_.REQUESTS_PER_SECOND, 1e-9),))
    [need] = metric_recommendations(policy, demand(1e308))
    assert not isinstance(need, Unavailable)
    assert need.replicas == 10**9
    assert replace(need, replicas=1).clause.startswith("1000")


def test_a_backlog_is_not_drained_by_arrivals_that_cannot_be(demand: Callable[..., Any]) -> None:
    impossible = replace(
        demand(), requests_per_second=-1.0, queued=1.0, oldest_wait_seconds=5.0, in_flight=0.0
    )
    barely = replace(impossible, completed_per_replica=5e-324)  # divided by, it overflows
    need = backlog_recommendation(ScalingPolicy(0, 4, ()), barely, current=1, ready=1, seats=8)
    assert need is not None
    assert need.replicas == 1  # a seat for each request

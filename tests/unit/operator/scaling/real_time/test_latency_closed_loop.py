"""Latency objectives in a closed loop, second by second, on a service with a queue.

A saturated replica of four seats completes 9.4 requests/s, in 0.4 s each.
"""

from dataclasses import replace
from itertools import pairwise

import pytest

from queueing_service import QueueingService
from r1_operator.api.scaling import MetricType
from r1_operator.plan.scaling.policy import MetricTarget, ScalingPolicy

MEAN = MetricTarget(MetricType.MEAN_LATENCY, 600.0)
FIRST = MetricTarget(MetricType.TIME_TO_FIRST_TOKEN, 200.0, percentile=0.95)
STEP = MetricTarget(MetricType.MEAN_LATENCY, 450.0, step=1.5)
NEEDED = 7  # of 60 requests/s, with no headroom at all


def service(metric: MetricTarget, replicas: int, **more: float) -> QueueingService:
    policy = ScalingPolicy(1, 40, (metric,))
    return QueueingService(policy, replicas, **more)  # type: ignore[arg-type]


def changes(counts: list[int]) -> int:
    return sum(before != after for before, after in pairwise(counts))


@pytest.mark.parametrize("metric", [MEAN, FIRST, STEP], ids=["mean", "first-token", "step"])
@pytest.mark.parametrize("replicas", [2, 20])
def test_a_latency_objective_settles_near_the_needed_count_from_both_sides(
    metric: MetricTarget, replicas: int
) -> None:
    story = service(metric, replicas)
    story.play(5400, 60.0)
    settled = story.counts[-1800:]
    assert min(settled) >= NEEDED
    assert max(settled) <= 1.75 * NEEDED
    assert changes(settled) <= 3
    late = story.latencies[-len(story.latencies) // 4 :]
    assert sum(late) / len(late) <= 0.6


@pytest.mark.parametrize("start_seconds", [20.0, 60.0, 300.0])
def test_starting_replicas_count_so_that_nothing_runs_away(start_seconds: float) -> None:
    story = service(MEAN, 2, start_seconds=start_seconds)
    story.play(1800, 60.0)
    assert max(story.counts) <= 2 * NEEDED


def test_by_latency_alone_it_doubles_once_a_start_up() -> None:
    """Without the backlog rule: each step waits until the one before serves and shows in the figures."""
    story = service(MEAN, 2)
    story.policy = replace(story.policy, backlog_threshold_seconds=1e9)
    story.play(1200, 60.0)
    rises = [
        (second, after)
        for second, (before, after) in enumerate(pairwise(story.counts))
        if after > before
    ]
    assert [after for _, after in rises] == [4, 8]
    assert rises[1][0] - rises[0][0] >= 60 + 60


def test_an_objective_out_of_reach_does_not_take_the_maximum() -> None:
    """A request takes 0.2 s at best; no number of replicas makes it 0.1 s."""
    story = service(replace(MEAN, target=100.0), 4)
    story.play(3600, 60.0)
    assert max(story.counts) < 25
    assert changes(story.counts[-1800:]) == 0


def test_a_load_that_falls_and_comes_back_is_answered_by_what_was_learned() -> None:
    story = service(MEAN, 8)
    story.play(1200, 60.0)
    story.play(1200, 6.0)
    low = story.replicas
    story.play(900, 60.0)
    assert low <= 3
    assert NEEDED <= story.replicas <= 2 * NEEDED

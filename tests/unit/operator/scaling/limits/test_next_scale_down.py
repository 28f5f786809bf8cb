"""The earliest time of the next scale-down: it is named, and it is when the count falls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from r1_operator.api.scaling import DownPolicy, PolicyType
from r1_operator.plan.scaling.policy import DownBehavior, RateLimit, UpBehavior
from r1_operator.plan.scaling.reasons import DecisionReason as Why

Build = Callable[..., Any]
AT_ONCE = UpBehavior(limits=())


def falls(story: Any, demand: float, seconds: int, **more: Any) -> list[tuple[int, float | None]]:
    """For each scale-down: its second, and the time that the decision before it named."""
    found: list[tuple[int, float | None]] = []
    named = story.decisions[-1].next_scale_down_seconds if story.decisions else None
    for second in range(seconds):
        decision = story.once(demand, **more)
        if decision.replicas < decision.current:
            found.append((second, named))
        named = decision.next_scale_down_seconds
    return found


def test_the_scale_down_window_names_its_end(stage: Build) -> None:
    story = stage(up=AT_ONCE)
    story.once(70.0)
    decision = story.play(100, 7.0)
    assert (decision.reason, decision.next_scale_down_seconds) == (Why.STABILIZED, 200.0)
    assert decision.to_json()["nextScaleDownSeconds"] == 200.0
    assert falls(story, 7.0, 300) == [(199, 1.0)]
    assert story.decisions[-1].next_scale_down_seconds is None, "nothing waits any more"


def test_a_staircase_names_each_step(stage: Build) -> None:
    story = stage(up=AT_ONCE)
    story.play(100, 70.0)
    story.play(100, 35.0)
    decision = story.play(10, 7.0)
    assert (decision.replicas, decision.next_scale_down_seconds) == (10, 190.0)
    assert falls(story, 7.0, 400) == [(189, 1.0), (289, 1.0)]


def test_rate_limits_name_the_end_of_their_period(stage: Build) -> None:
    down = DownBehavior(
        stabilization_window_seconds=0, limits=(RateLimit(PolicyType.PODS, 2, 60.0),)
    )
    story = stage(replicas=10, down=down)
    decision = story.once(35.0)
    assert (decision.replicas, decision.reason) == (8, Why.RATE_LIMITED)
    assert decision.next_scale_down_seconds == 60.0
    assert falls(story, 35.0, 200) == [(59, 1.0), (119, 1.0)]


def test_scaling_to_zero_names_the_rest_of_the_window(stage: Build) -> None:
    story = stage(replicas=1, min_replicas=0)
    story.once(1.0)
    decision = story.play(100, 0.0)
    assert decision.reason is Why.SCALE_TO_ZERO_COOLDOWN
    assert decision.next_scale_down_seconds == 200.0
    assert falls(story, 0.0, 300) == [(199, 1.0)]


def test_a_recent_peak_names_its_end(stage: Build, forecast: Build) -> None:
    slow = replace(forecast(14.0), lead_seconds=200.0)
    story = stage(replicas=1, up=AT_ONCE)
    story.play(60, 70.0, forecast=slow)
    decision = story.play(330, 14.0, forecast=slow)
    assert (decision.replicas, decision.reason) == (7, Why.RECENT_PEAK)
    assert decision.next_scale_down_seconds == pytest.approx(600.0 - 330.0)


def test_a_threshold_and_missing_metrics_depend_on_no_time(stage: Build) -> None:
    kept = stage(replicas=10, down=DownBehavior(policy=DownPolicy.THRESHOLD)).once(42.0)
    assert (kept.replicas, kept.next_scale_down_seconds) == (10, None)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    loads=st.lists(st.tuples(st.floats(1, 150), st.integers(1, 60)), min_size=1, max_size=5),
    window=st.sampled_from([0.0, 30.0, 90.0]),
    limits=st.sampled_from(
        [
            (),
            (RateLimit(PolicyType.PODS, 1, 20.0),),
            (RateLimit(PolicyType.PERCENT, 50, 15.0), RateLimit(PolicyType.PODS, 2, 45.0)),
        ]
    ),
)
def test_no_scale_down_is_earlier_than_named(
    stage: Build, loads: list[tuple[float, int]], window: float, limits: tuple[RateLimit, ...]
) -> None:
    story = stage(up=AT_ONCE, down=DownBehavior(stabilization_window_seconds=window, limits=limits))
    for rate, seconds in loads:
        story.play(seconds, rate)
    story.once(5.0)
    promised = 0.0
    for second in range(200):
        decision = story.once(5.0)
        if decision.replicas < decision.current:
            assert second >= promised - 1e-9
            promised = 0.0
        if decision.next_scale_down_seconds is not None:
            promised = max(promised, second + decision.next_scale_down_seconds)

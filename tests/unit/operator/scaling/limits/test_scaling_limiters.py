"""Every rule of the limiter chain, simulated per second."""

from collections.abc import Callable
from typing import Any

import pytest

from r1_common.contracts.unavailable import Unavailable
from r1_operator.api.scaling import DownPolicy, MetricType, PolicyType
from r1_operator.plan.scaling.decide import fixed
from r1_operator.plan.scaling.policy import DownBehavior, MetricTarget, RateLimit, UpBehavior
from r1_operator.plan.scaling.reasons import DecisionMode, DecisionReason

AT_ONCE = UpBehavior(limits=())
GONE = Unavailable("StaleSignals", "No gateway has answered for 20 s (gw-0).")
Build = Callable[..., Any]


class TestBounds:
    def test_the_maximum_holds_and_says_what_would_be_needed(self, stage: Build) -> None:
        decision = stage(replicas=9, max_replicas=10).once(140.0)
        assert (decision.replicas, decision.reason) == (10, DecisionReason.AT_MAX_REPLICAS)
        assert decision.limited
        assert decision.message == "10 replicas (maxReplicas): demand needs 20."

    def test_the_minimum_holds(self, stage: Build) -> None:
        story = stage(replicas=2, min_replicas=2)
        decision = story.once(0.0)
        assert (decision.replicas, decision.reason) == (2, DecisionReason.AT_MIN_REPLICAS)

    @pytest.mark.parametrize(("current", "bounded"), [(0, 2), (1, 2), (40, 10)])
    def test_a_count_outside_the_bounds_moves_to_the_bound_without_metrics(
        self, stage: Build, current: int, bounded: int
    ) -> None:
        story = stage(replicas=current, min_replicas=2, max_replicas=10)
        assert story.once(GONE).replicas == bounded

    def test_an_exact_fit_is_not_a_limit(self, stage: Build) -> None:
        decision = stage(replicas=10, max_replicas=10).once(70.0)
        assert decision.reason is DecisionReason.WITHIN_TARGET
        assert not decision.limited


class TestRateLimits:
    def test_up_by_the_larger_of_double_and_four_in_any_15_s(self, stage: Build) -> None:
        story = stage(max_replicas=200)
        counts = [story.once(1400.0).replicas for _ in range(61)]
        assert counts[0] == counts[14] == 5
        assert counts[15] == counts[29] == 10
        assert counts[30] == 20
        assert counts[45] == 40
        assert counts[60] == 80
        assert story.decisions[0].reason is DecisionReason.RATE_LIMITED
        assert story.decisions[0].limited

    def test_a_limit_counts_every_change_of_its_period(self, stage: Build) -> None:
        limits = (RateLimit(PolicyType.PODS, 2, 60),)
        story = stage(up=UpBehavior(limits=limits))
        assert story.once(14.0).replicas == 2
        assert story.play(30, 14.0).replicas == 2
        assert story.once(70.0).replicas == 3
        # The first of the two changes leaves the window a minute after it was made.
        assert story.play(28, 70.0).replicas == 3
        assert story.play(2, 70.0).replicas == 4

    def test_down_by_a_quarter_a_minute(self, stage: Build) -> None:
        limits = (RateLimit(PolicyType.PERCENT, 25, 60),)
        story = stage(replicas=16, down=DownBehavior(limits=limits))
        story.history = story.history.with_recommendation(
            story.now - 1000, 1, 1, active=True, policy=story.policy
        )
        counts = [story.once(7.0).replicas for _ in range(181)]
        assert [counts[i] for i in (0, 59, 60, 120, 180)] == [12, 12, 9, 6, 4]

    def test_a_percentage_of_zero_still_scales_from_zero(self, stage: Build) -> None:
        limits = (RateLimit(PolicyType.PERCENT, 100, 15),)
        story = stage(replicas=0, min_replicas=0, up=UpBehavior(limits=limits))
        assert story.once(70.0).replicas == 1


class TestStabilizedDown:
    def test_the_highest_need_of_the_window_stays(self, stage: Build) -> None:
        story = stage(up=AT_ONCE)
        assert story.once(70.0).replicas == 10
        decision = story.play(299, 7.0)
        assert (decision.replicas, decision.reason) == (10, DecisionReason.STABILIZED)
        assert decision.message.startswith("Keeping 10 replicas: demand in the last 5 min reached")
        assert story.once(7.0).replicas == 1

    def test_a_staircase_of_needs_comes_down_as_a_staircase(self, stage: Build) -> None:
        story = stage(up=AT_ONCE)
        story.play(100, 70.0)
        story.play(100, 35.0)
        story.play(199, 7.0)
        assert story.replicas == 10
        story.once(7.0)
        assert story.replicas == 5
        story.play(99, 7.0)
        assert story.replicas == 5
        story.once(7.0)
        assert story.replicas == 1

    def test_a_peak_within_the_window_starts_it_anew(self, stage: Build) -> None:
        story = stage(up=AT_ONCE)
        for _ in range(10):
            story.once(70.0)
            story.play(250, 7.0)
        assert story.replicas == 10


class TestThresholdDown:
    DOWN = DownBehavior(policy=DownPolicy.THRESHOLD)

    @pytest.mark.parametrize(("rate", "replicas"), [(42.0, 10), (41.9, 10), (35.1, 10), (35.0, 5)])
    def test_only_below_six_tenths(self, stage: Build, rate: float, replicas: int) -> None:
        assert stage(replicas=10, down=self.DOWN).once(rate).replicas == replicas

    def test_sleep_waits_for_the_window_here_too(self, stage: Build) -> None:
        story = stage(replicas=1, min_replicas=0, down=self.DOWN)
        story.once(1.0)
        decision = story.play(299, 0.0)
        assert (decision.replicas, decision.reason) == (1, DecisionReason.SCALE_TO_ZERO_COOLDOWN)
        assert story.once(0.0).replicas == 0


class TestStabilizedUp:
    UP = UpBehavior(stabilization_window_seconds=60, limits=())

    def test_a_rise_shorter_than_the_scale_up_window_has_no_effect(self, stage: Build) -> None:
        story = stage(up=self.UP)
        story.play(60, 7.0)
        assert story.play(59, 70.0).reason is DecisionReason.STABILIZED
        assert story.replicas == 1
        story.play(10, 7.0)
        assert story.replicas == 1

    def test_a_rise_as_long_as_the_scale_up_window_raises_the_count(self, stage: Build) -> None:
        story = stage(up=self.UP)
        story.play(60, 7.0)
        story.play(59, 70.0)
        assert story.replicas == 1
        assert story.play(2, 70.0).replicas == 10

    def test_the_scale_up_window_does_not_delay_scaling_from_zero(
        self, stage: Build, demand: Build
    ) -> None:
        story = stage(replicas=0, min_replicas=0, up=self.UP)
        story.play(5, 0.0)
        decision = story.once(demand(0.1, queued=1.0, buffered=1.0))
        assert (decision.replicas, decision.reason) == (1, DecisionReason.SCALING_FROM_ZERO)


class TestMissingMetrics:
    def test_nothing_known_holds_the_last_count(self, stage: Build) -> None:
        story = stage(replicas=7)
        decision = story.play(3600, GONE)
        assert (decision.replicas, decision.reason) == (7, DecisionReason.METRICS_UNAVAILABLE)
        assert decision.message == f"Keeping 7 replicas: demand is unknown. {GONE.message}"
        assert not decision.metrics_available

    def test_the_return_of_data_starts_a_full_window(self, stage: Build) -> None:
        story = stage(replicas=7)
        story.play(600, GONE)
        assert story.play(299, 7.0).replicas == 7
        assert story.once(7.0).replicas == 1

    def test_one_metric_of_two_can_raise_but_not_lower(self, stage: Build, demand: Build) -> None:
        metrics = (
            MetricTarget(MetricType.REQUESTS_PER_SECOND, 10),
            MetricTarget(MetricType.CONCURRENCY, 8),
        )
        story = stage(replicas=5, metrics=metrics)
        low = demand(GONE, in_flight=2.0)
        decision = story.play(900, low)
        assert (decision.replicas, decision.reason) == (5, DecisionReason.METRICS_UNAVAILABLE)
        assert story.once(demand(GONE, in_flight=50.0)).replicas == 9

    def test_a_silent_gateway_makes_the_rest_a_lower_bound(
        self, stage: Build, demand: Build
    ) -> None:
        story = stage(replicas=5)
        half = demand(7.0, missing=("gw-1",))
        assert story.play(900, half).replicas == 5
        assert "gw-1 does not answer" in story.decisions[-1].message
        assert story.once(demand(49.0, missing=("gw-1",))).replicas == 7

    def test_a_buffered_request_scales_from_zero_even_when_rates_are_unknown(
        self, stage: Build, demand: Build
    ) -> None:
        story = stage(replicas=0, min_replicas=0)
        decision = story.once(demand(GONE, queued=1.0, buffered=1.0))
        assert (decision.replicas, decision.reason) == (1, DecisionReason.SCALING_FROM_ZERO)


class TestScaleToZero:
    def test_idle_for_the_window_sleeps(self, stage: Build) -> None:
        story = stage(replicas=1, min_replicas=0)
        story.once(0.5)
        assert story.play(299, 0.0).replicas == 1
        decision = story.once(0.0)
        assert (decision.replicas, decision.reason) == (0, DecisionReason.IDLE)

    def test_a_request_in_between_keeps_it_awake(self, stage: Build, demand: Build) -> None:
        story = stage(replicas=1, min_replicas=0)
        for _ in range(5):
            story.play(250, 0.0)
            story.once(demand(0.0, in_flight=1.0))
        assert story.replicas == 1

    def test_asleep_and_idle_stays_asleep(self, stage: Build) -> None:
        story = stage(replicas=0, min_replicas=0)
        decision = story.play(1000, 0.0)
        assert (decision.replicas, decision.reason) == (0, DecisionReason.IDLE)

    def test_blind_while_asleep_stays_asleep(self, stage: Build) -> None:
        assert stage(replicas=0, min_replicas=0).play(100, GONE).replicas == 0

    def test_a_buffered_request_scales_from_zero_in_the_same_second(
        self, stage: Build, demand: Build
    ) -> None:
        story = stage(replicas=0, min_replicas=0)
        story.play(10, 0.0)
        decision = story.once(demand(0.02, queued=1.0, buffered=1.0))
        assert (decision.replicas, decision.reason) == (1, DecisionReason.SCALING_FROM_ZERO)


class TestRestart:
    @pytest.mark.parametrize("policy", list(DownPolicy))
    def test_an_empty_memory_lowers_nothing_for_a_full_window(
        self, stage: Build, policy: DownPolicy
    ) -> None:
        story = stage(replicas=8, watched=False, down=DownBehavior(policy=policy))
        decision = story.play(300, 7.0)
        assert (decision.replicas, decision.reason) == (8, DecisionReason.STABILIZED)
        assert "has observed 299 of the 300 s scale-down window" in decision.message
        assert story.once(7.0).replicas == 1

    def test_a_scale_up_after_a_restart_is_immediate(self, stage: Build) -> None:
        assert stage(replicas=8, watched=False).once(70.0).replicas == 10


class TestDecision:
    def test_steps_tell_the_whole_way(self, stage: Build) -> None:
        story = stage(replicas=1, max_replicas=8)
        decision = story.once(70.0)
        assert [(s.name, s.before, s.after, s.reason) for s in decision.steps] == [
            ("Demand", 1, 10, DecisionReason.REAL_TIME_DEMAND),
            ("Maximum", 10, 8, DecisionReason.AT_MAX_REPLICAS),
            ("RateLimit", 8, 5, DecisionReason.RATE_LIMITED),
        ]

    def test_json_has_every_input_and_no_nan(self, stage: Build, demand: Build) -> None:
        broken = demand(float("nan"), queued=float("inf"))
        document = stage().once(broken).to_json()
        assert document["reason"] == "MetricsUnavailable"
        assert document["inputs"]["demand"]["requestsPerSecond"] is None
        assert document["inputs"]["demand"]["queued"] is None
        assert document["inputs"]["policy"]["metrics"] == [
            {"type": "RequestsPerSecond", "target": 10.0}
        ]

    def test_the_simulated_hpa_count_is_part_of_the_decision(self, stage: Build) -> None:
        story = stage(replicas=10)
        # 63 to 77 requests/s are within its tolerance of ten replicas; the policy follows.
        decision = story.once(76.0)
        assert (decision.replicas, decision.hpa_replicas) == (11, 10)

    def test_without_autoscaling_the_user_decides(self) -> None:
        decision = fixed(3, 1, 0.0)
        assert (decision.replicas, decision.reason, decision.mode) == (
            3,
            DecisionReason.MANUAL,
            DecisionMode.MANUAL,
        )

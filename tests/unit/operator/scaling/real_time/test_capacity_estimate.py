"""Capacity of a replica, measured under saturation."""

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from queueing_service import QueueingService
from r1_operator.api.scaling import MetricType
from r1_operator.plan.scaling.policy import MetricTarget, ScalingPolicy
from r1_operator.plan.scaling.real_time.capacity_estimate import (
    CapacitySample,
    Estimate,
    LearnedCapacity,
    with_learned,
)
from r1_operator.plan.signals.counter_sample import CounterSample
from r1_operator.plan.signals.counter_store import CounterStore
from r1_operator.plan.signals.demand import Demand

NOW = 1_700_000_000.0
RATE = MetricType.REQUESTS_PER_SECOND


def learned_from(*rates: float, finished: float = 100.0) -> LearnedCapacity:
    return LearnedCapacity(tuple(CapacitySample(NOW, finished, finished / rate) for rate in rates))


def planned(figure: float, learned: LearnedCapacity) -> float:
    [metric] = with_learned(ScalingPolicy(1, 9, (MetricTarget(RATE, figure),)), learned).metrics
    return metric.target


class TestTheRule:
    def test_the_figure_is_the_start(self) -> None:
        assert planned(10.0, LearnedCapacity()) == 10.0
        assert planned(10.0, learned_from(5.0)) == 10.0

    def test_a_figure_that_is_too_high_is_lowered_as_far_as_it_is_no_chance(self) -> None:
        assert 7.0 < planned(10.0, learned_from(7.0, 7.1, 6.9)) < 8.5

    def test_a_measured_capacity_is_at_least_half_of_the_target(self) -> None:
        assert planned(10.0, learned_from(0.1, 0.1, 0.1)) == 5.0

    @pytest.mark.parametrize(
        "learned",
        [
            learned_from(15.0, 15.0, 15.0, 15.0),  # too few samples
            learned_from(*[15.0] * 6, finished=10.0),  # too few requests
            learned_from(5.0, 35.0, 8.0, 30.0, 6.0, 33.0),  # too much scatter
        ],
        ids=["samples", "requests", "scatter"],
    )
    def test_a_noisy_estimate_never_cuts_the_count(self, learned: LearnedCapacity) -> None:
        assert planned(10.0, learned) == 10.0

    def test_a_proven_one_does_by_its_lower_bound_and_to_the_double_at_most(self) -> None:
        assert 13.9 < planned(10.0, learned_from(*[15.0, 15.3, 14.7] * 3)) < 15.0
        assert planned(10.0, learned_from(*[100.0] * 9)) == 20.0

    def test_the_error_is_at_least_that_of_a_count(self) -> None:
        estimate = learned_from(*[10.0] * 4, finished=25.0).estimate()
        assert estimate is not None
        assert estimate.error == pytest.approx(1.0)  # 100 requests in 10 replica-seconds

    def test_other_metrics_keep_their_figures(self) -> None:
        tokens = MetricTarget(MetricType.TOKENS_PER_SECOND, 10.0)
        policy = ScalingPolicy(1, 9, (tokens,))
        assert with_learned(policy, learned_from(7.0, 7.0, 7.0)) == policy


class TestObservations:
    def watch(
        self, demand: Callable[..., Demand], seconds: int, *, rate: float = 8.0, **figures: float
    ) -> LearnedCapacity:
        """Two saturated replicas of eight seats that complete `rate` requests/s each."""
        learned = LearnedCapacity()
        plain = {"in_flight": 16.0, "queued": 5.0, "seats": 16.0} | figures
        for second in range(0, seconds, 2):
            reading = demand(20.0, completed=2 * rate * second, **plain)
            learned = learned.with_observation(reading, 2, NOW + second)
        return learned

    def test_full_seats_are_a_sample_each_turn_over(self, demand: Callable[..., Demand]) -> None:
        estimate = self.watch(demand, 62).estimate()
        assert estimate is not None
        assert estimate.mean == pytest.approx(8.0)
        assert estimate.samples == 5  # the first ten seconds are dropped

    def test_slow_requests_make_long_samples(self, demand: Callable[..., Demand]) -> None:
        learned = self.watch(demand, 200, rate=0.2)  # 16 in flight take 40 s
        assert len(learned.samples) == 3
        assert learned.samples[0].rate == pytest.approx(0.2, rel=0.06)

    def test_seats_that_are_free_teach_nothing(self, demand: Callable[..., Demand]) -> None:
        assert self.watch(demand, 100, in_flight=12.0).samples == ()

    def test_a_silent_gateway_teaches_nothing(self, demand: Callable[..., Demand]) -> None:
        learned = LearnedCapacity()
        for second in range(0, 100, 2):
            reading = demand(
                1.0, completed=9.0 * second, in_flight=16.0, seats=16.0, missing=("g",)
            )
            learned = learned.with_observation(reading, 2, NOW + second)
        assert learned.samples == ()

    def test_an_added_replica_begins_a_new_saturation_period(
        self, demand: Callable[..., Demand]
    ) -> None:
        learned = LearnedCapacity()
        for second in range(0, 100, 2):
            reading = demand(20.0, completed=16.0 * second, in_flight=16.0, seats=16.0)
            learned = learned.with_observation(reading, 2 + second // 16, NOW + second)
        assert learned.samples == ()

    def test_a_counter_reset_begins_a_new_saturation_period(
        self, demand: Callable[..., Demand]
    ) -> None:
        learned = LearnedCapacity()
        for second in range(0, 100, 2):
            reading = demand(20.0, completed=16.0 * (second % 14), in_flight=16.0, seats=16.0)
            learned = learned.with_observation(reading, 2, NOW + second)
        assert learned.samples == ()

    def test_capacity_samples_expire(self, demand: Callable[..., Demand]) -> None:
        learned = learned_from(*[7.0] * 10).with_observation(demand(0.0), 2, NOW + 7 * 3600)
        assert learned.samples == ()


def test_an_estimate_comes_close_and_knows_how_close() -> None:
    rng, inside = random.Random(3), 0
    for _ in range(200):
        rates = [max(1.0, rng.gauss(10.0, 1.5)) for _ in range(10)]
        estimate = learned_from(*rates).estimate()
        assert isinstance(estimate, Estimate)
        inside += abs(estimate.mean - 10.0) <= 2 * estimate.error
    assert inside >= 180


def test_in_a_closed_loop_a_figure_twice_too_high_heals() -> None:
    """A saturated replica completes about 10/s; the target is 25, so arrivals alone give too few."""
    policy = ScalingPolicy(1, 20, (MetricTarget(RATE, 25.0),), backlog_threshold_seconds=1e9)
    stuck = QueueingService(replace(policy, max_replicas=4), 4)
    stuck.play(600, 60.0)
    estimate = stuck.history.capacity.estimate()
    assert estimate is not None
    assert estimate.mean == pytest.approx(10.0, rel=0.1)
    assert estimate.error < 0.5
    story = QueueingService(policy, 4)
    story.play(900, 60.0)
    assert story.replicas >= 6
    [shown] = [decision.inputs["capacity"] for decision in story.decisions[-1:]]
    assert isinstance(shown, dict)
    assert shown["target"] == 25.0
    assert shown["planned"] < 25.0  # type: ignore[operator]


def test_gateways_that_share_the_seats_are_full_together_or_not_at_all() -> None:
    """Two gateways with eight of sixteen seats each: eight in flight is half of the capacity."""

    def sample(gateway: str, at: float) -> CounterSample:
        return CounterSample(
            gateway, 0.0, at, at, 20.0 * at, 0.0, 5.0 * at, 0.0, 4.0, 0.0, 0.0, 0.0, 8.0, 2.0
        )

    counters, learned = CounterStore(), LearnedCapacity()
    for second in range(1000, 1240, 2):
        for gateway in ("a", "b"):
            counters.observe(sample(gateway, float(second)))
        learned = learned.with_observation(counters.demand(float(second)), 2, float(second))
    assert learned.samples == ()

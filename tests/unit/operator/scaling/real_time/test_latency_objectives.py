"""Latency objectives in single decisions: missed, met, out of reach, unknown."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from r1_common.contracts.unavailable import Unavailable
from r1_operator.api.scaling import ClassName, MetricType
from r1_operator.plan.scaling.decide import decide
from r1_operator.plan.scaling.inputs import ScalingInputs
from r1_operator.plan.scaling.policy import MetricTarget
from r1_operator.plan.scaling.real_time.latency_objectives import (
    LatencyMemory,
    ServiceModel,
    latency_recommendation,
)
from r1_operator.plan.scaling.real_time.recommendations import Recommendation
from r1_operator.plan.scaling.reasons import DecisionReason
from r1_operator.plan.signals.demand import Demand
from r1_operator.plan.signals.latencies import NOT_REPORTED, Latencies, Recent
from r1_operator.plan.signals.latency_histograms import LatencyHistogram

NOW = 1_700_000_000.0
Q1, Q2 = ClassName.Q1, ClassName.Q2
MEAN = MetricTarget(MetricType.MEAN_LATENCY, 200.0)
LONG_SERVED = LatencyMemory(serving=4, since=NOW - 3600)


def took(
    milliseconds: float, count: int = 100, wait: float = 0.0, seconds: float = 30.0
) -> Latencies:
    """All requests of class Q2 took this long, both to the first token and in total."""
    durations = LatencyHistogram((0.1, 1.0), (0.0, float(count), 0.0), count * milliseconds / 1000)
    recent = {Q2: Recent(durations, seconds)}
    return Latencies(recent, recent, {Q2: wait})


@pytest.fixture
def busy(demand: Callable[..., Demand]) -> Callable[..., ServiceModel]:
    """Four replicas at 40 requests/s with 32 requests at once."""

    def build(current: int = 4, ready: int = 4, lead: float = 60.0, **figures: Any) -> ServiceModel:
        plain: dict[str, Any] = {"requests_per_second": 40.0, "in_flight": 32.0}
        return ServiceModel(demand(**(plain | figures)), current, ready, lead)

    return build


def recommended(answer: Recommendation | Unavailable) -> Recommendation:
    assert isinstance(answer, Recommendation), answer
    return answer


class TestMissed:
    @pytest.mark.parametrize(
        ("milliseconds", "step", "replicas"),
        [
            (201.0, None, 5),  # a little late: one more
            (300.0, None, 6),  # in proportion
            (400.0, None, 8),
            (9000.0, None, 8),  # at most double
            (201.0, 1.5, 6),  # the step rule gives 1.5 x for any miss
            (9000.0, 1.5, 6),
            (9000.0, 4.0, 16),
            (201.0, 1.01, 5),
        ],
    )
    def test_one_step(
        self,
        busy: Callable[..., ServiceModel],
        milliseconds: float,
        step: float | None,
        replicas: int,
    ) -> None:
        metric = replace(MEAN, step=step)
        answer, _ = latency_recommendation(metric, took(milliseconds), busy(), LONG_SERVED, NOW)
        need = recommended(answer)
        assert (need.replicas, need.reason) == (replicas, DecisionReason.LATENCY_OBJECTIVE)
        assert "MeanLatency is" in need.clause
        assert "objective 200 ms" in need.clause

    def test_a_queue_wait_counts_before_any_request_has_finished(
        self, busy: Callable[..., ServiceModel]
    ) -> None:
        answer, _ = latency_recommendation(
            MEAN, took(100.0, wait=0.4), busy(queued=10.0), LONG_SERVED, NOW
        )
        need = recommended(answer)
        assert need.replicas == 8
        assert "oldest wait" in need.clause

    def test_replicas_that_start_are_the_answer_already(
        self, busy: Callable[..., ServiceModel]
    ) -> None:
        for ready in range(8):
            answer, _ = latency_recommendation(
                MEAN, took(900.0), busy(current=8, ready=ready), LONG_SERVED, NOW
            )
            assert recommended(answer).replicas == 8

    def test_the_next_step_waits_for_figures_of_the_new_count(
        self, busy: Callable[..., ServiceModel]
    ) -> None:
        memory, counts = LONG_SERVED, []
        for second in range(0, 100, 10):
            answer, memory = latency_recommendation(
                MEAN, took(500.0), busy(current=8, ready=8), memory, NOW + second
            )
            counts.append(recommended(answer).replicas)
        assert counts == [8] * 6 + [16] * 4

    def test_a_queue_that_drains_before_a_replica_would_come_is_left_to_drain(
        self, busy: Callable[..., ServiceModel]
    ) -> None:
        # 4 replicas complete 60/s, 40 arrive: 400 queued requests drain in 20 s.
        service = busy(queued=400.0, completed_per_replica=15.0)
        answer, _ = latency_recommendation(MEAN, took(900.0, wait=9.0), service, LONG_SERVED, NOW)
        assert recommended(answer).replicas == 4
        assert "drains in 20 s" in recommended(answer).clause
        slow = busy(queued=4000.0, completed_per_replica=15.0)
        answer, _ = latency_recommendation(MEAN, took(900.0, wait=9.0), slow, LONG_SERVED, NOW)
        assert recommended(answer).replicas == 8

    def test_few_late_requests_are_no_miss(self, busy: Callable[..., ServiceModel]) -> None:
        answer, _ = latency_recommendation(MEAN, took(900.0, count=4), busy(), LONG_SERVED, NOW)
        assert recommended(answer).replicas <= 4

    def test_a_step_up_stops_at_a_load_that_met_the_objective(
        self, busy: Callable[..., ServiceModel]
    ) -> None:
        memory = replace(LONG_SERVED, met_at=8.0)
        answer, _ = latency_recommendation(MEAN, took(900.0), busy(), memory, NOW)
        assert recommended(answer).replicas == 5  # 40 / 8, not the double


class TestOutOfReach:
    def test_no_more_than_a_replica_for_each_request(
        self, busy: Callable[..., ServiceModel]
    ) -> None:
        answer, _ = latency_recommendation(MEAN, took(900.0), busy(in_flight=5.0), LONG_SERVED, NOW)
        assert recommended(answer).replicas == 5
        answer, _ = latency_recommendation(MEAN, took(900.0), busy(in_flight=4.0), LONG_SERVED, NOW)
        assert recommended(answer).replicas == 4
        assert "already has its own replica" in recommended(answer).clause

    def test_a_step_that_did_not_help_is_not_repeated_until_it_gets_worse(
        self, busy: Callable[..., ServiceModel]
    ) -> None:
        answer, memory = latency_recommendation(MEAN, took(400.0), busy(), LONG_SERVED, NOW)
        assert recommended(answer).replicas == 8
        doubled = busy(current=8, ready=8)
        latency_recommendation(MEAN, took(400.0), doubled, memory, NOW + 60)
        _, memory = latency_recommendation(MEAN, took(400.0), doubled, memory, NOW + 60)
        answer, memory = latency_recommendation(MEAN, took(390.0), doubled, memory, NOW + 200)
        assert recommended(answer).replicas == 8
        assert "did not reduce" in recommended(answer).clause
        answer, memory = latency_recommendation(MEAN, took(600.0), doubled, memory, NOW + 300)
        assert recommended(answer).replicas == 16


class TestMet:
    def test_down_by_a_fifth_where_there_is_room(self, busy: Callable[..., ServiceModel]) -> None:
        ten = replace(LONG_SERVED, serving=10)
        answer, _ = latency_recommendation(MEAN, took(100.0), busy(current=10, ready=10), ten, NOW)
        need = recommended(answer)
        assert (need.replicas, need.reason) == (8, DecisionReason.REAL_TIME_DEMAND)

    def test_not_where_the_latency_would_come_close(
        self, busy: Callable[..., ServiceModel]
    ) -> None:
        ten = replace(LONG_SERVED, serving=10)
        answer, _ = latency_recommendation(MEAN, took(150.0), busy(current=10, ready=10), ten, NOW)
        assert recommended(answer).replicas == 10

    def test_scale_down_returns_at_once_to_a_load_that_met_the_objective(
        self, busy: Callable[..., ServiceModel]
    ) -> None:
        memory = replace(LONG_SERVED, serving=40, met_at=10.0)
        answer, _ = latency_recommendation(
            MEAN, took(150.0), busy(current=40, ready=40), memory, NOW
        )
        assert recommended(answer).replicas == 4

    def test_never_again_to_a_load_that_was_too_much(
        self, busy: Callable[..., ServiceModel]
    ) -> None:
        memory = replace(LONG_SERVED, met_at=20.0, missed_at=11.0, missed_noted_at=NOW)
        answer, _ = latency_recommendation(MEAN, took(10.0), busy(), memory, NOW)
        assert recommended(answer).replicas == 5  # 40 / (0.9 x 11)
        assert "missed at 11 requests/s" in recommended(answer).clause

    def test_a_count_rises_before_the_load_reaches_the_missed_one(
        self, busy: Callable[..., ServiceModel]
    ) -> None:
        memory = replace(LONG_SERVED, serving=9, met_at=9.0, missed_at=10.0, missed_noted_at=NOW)
        nine = busy(current=9, ready=9, requests_per_second=88.0)
        answer, _ = latency_recommendation(MEAN, took(190.0), nine, memory, NOW)
        assert recommended(answer).replicas == 10

    def test_a_load_that_does_well_beyond_it_was_not_too_much(
        self, busy: Callable[..., ServiceModel]
    ) -> None:
        memory = replace(LONG_SERVED, missed_at=9.0, missed_noted_at=NOW)
        _, memory = latency_recommendation(MEAN, took(100.0), busy(), memory, NOW)
        assert (memory.missed_at, memory.met_at) == (None, 10.0)

    def test_a_missed_load_is_forgotten_by_a_tenth_an_hour(
        self, busy: Callable[..., ServiceModel]
    ) -> None:
        memory = replace(LONG_SERVED, missed_at=9.0, missed_noted_at=NOW - 10 * 3600)
        answer, _ = latency_recommendation(MEAN, took(190.0), busy(), memory, NOW)
        assert (
            recommended(answer).replicas == 4
        )  # 40 / (0.9 x 18) would meet it, without a margin to try fewer

    def test_an_idle_service_needs_no_replicas(self, demand: Callable[..., Demand]) -> None:
        idle = ServiceModel(demand(0.0), 4, 4)
        answer, _ = latency_recommendation(MEAN, Latencies(), idle, LONG_SERVED, NOW)
        assert recommended(answer).replicas == 0

    def test_a_request_now_and_then_keeps_one_and_holds_nothing(
        self, busy: Callable[..., ServiceModel]
    ) -> None:
        rare = busy(requests_per_second=0.01, in_flight=1.0)
        memory = replace(LONG_SERVED, met_at=5.0)
        answer, _ = latency_recommendation(MEAN, Latencies(), rare, memory, NOW)
        assert recommended(answer).replicas == 1


class TestUnknown:
    @pytest.mark.parametrize(
        "latencies", [NOT_REPORTED, Unavailable("StaleLatency", "Gateway gw-1 is silent.")]
    )
    def test_a_missing_latency_is_passed_on(
        self, busy: Callable[..., ServiceModel], latencies: Unavailable
    ) -> None:
        answer, _ = latency_recommendation(MEAN, latencies, busy(), LONG_SERVED, NOW)
        assert answer is latencies

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
    def test_an_invalid_latency_is_unavailable(
        self, busy: Callable[..., ServiceModel], value: float
    ) -> None:
        for latencies in (took(value * 1000), Latencies(oldest_wait={Q2: value})):
            answer, memory = latency_recommendation(MEAN, latencies, busy(), LONG_SERVED, NOW)
            assert isinstance(answer, Unavailable)
            assert answer.reason == "InvalidLatency"
            assert memory == LONG_SERVED

    def test_the_latency_is_unavailable_while_no_request_finishes(
        self, busy: Callable[..., ServiceModel]
    ) -> None:
        answer, _ = latency_recommendation(MEAN, Latencies(), busy(), LONG_SERVED, NOW)
        assert isinstance(answer, Unavailable)
        assert answer.reason == "NoneFinished"

    def test_an_unknown_latency_keeps_the_count_beside_other_metrics(
        self, stage: Callable[..., Any], demand: Callable[..., Any]
    ) -> None:
        both = (MetricTarget(MetricType.REQUESTS_PER_SECOND, 10.0), MEAN)
        decision = stage(replicas=9, metrics=both).play(400, demand(1.0, in_flight=1.0))
        assert (decision.replicas, decision.reason) == (9, DecisionReason.METRICS_UNAVAILABLE)
        assert "latencies" in decision.message

    def test_other_metrics_may_raise_the_count_while_a_latency_is_unknown(
        self, stage: Callable[..., Any], demand: Callable[..., Any]
    ) -> None:
        both = (MetricTarget(MetricType.REQUESTS_PER_SECOND, 10.0), MEAN)
        decision = stage(replicas=2, metrics=both).once(demand(28.0, in_flight=1.0))
        assert decision.replicas == 4


def test_a_forecast_of_arrivals_confirms_no_scale_down_beside_a_latency(
    stage: Callable[..., Any], demand: Callable[..., Any], forecast: Callable[..., Any]
) -> None:
    """A forecast replaces the scale-down window of its own metric alone."""
    load = MetricTarget(MetricType.REQUESTS_PER_SECOND, 10.0)
    outside = MetricTarget(MetricType.EXTERNAL, 1.0)
    counts = {}
    for metrics in ((load,), (load, outside)):
        story = stage(replicas=1, metrics=metrics)
        for second in range(100):
            peak = 100.0 if second < 60 else 63.0
            inputs = ScalingInputs(
                story.replicas,
                story.replicas,
                demand(63.0),
                forecast(peak, now=story.now),
                external={"External": 0.0},
            )
            decision, story.history = decide(story.policy, inputs, story.history, story.now)
            story.replicas = decision.replicas
            story.now += 1
        counts[metrics] = story.replicas
    assert counts[(load,)] == 9
    assert counts[(load, outside)] == 12


class TestLatencyByClass:
    def slow_q2(self) -> Latencies:
        fast = Recent(LatencyHistogram((0.1, 1.0), (100.0, 0.0, 0.0), 5.0), 30.0)
        slow = Recent(LatencyHistogram((0.1, 1.0), (0.0, 100.0, 0.0), 50.0), 30.0)
        return Latencies({Q1: fast, Q2: slow}, {Q1: slow, Q2: fast}, {Q1: 0.0, Q2: 0.3})

    @pytest.mark.parametrize(("klass", "missed"), [(None, True), (Q2, True), (Q1, False)], ids=str)
    def test_a_class_alone(
        self, busy: Callable[..., ServiceModel], klass: ClassName | None, missed: bool
    ) -> None:
        metric = MetricTarget(MetricType.TIME_TO_FIRST_TOKEN, 200.0, priority_class=klass)
        answer, _ = latency_recommendation(metric, self.slow_q2(), busy(), LONG_SERVED, NOW)
        assert (recommended(answer).reason is DecisionReason.LATENCY_OBJECTIVE) is missed

    def test_a_percentile_sees_what_the_mean_hides(self, busy: Callable[..., ServiceModel]) -> None:
        tail = Recent(LatencyHistogram((0.1, 1.0), (90.0, 10.0, 0.0), 8.0), 30.0)
        latencies = Latencies({Q1: tail})
        mean = MetricTarget(MetricType.TIME_TO_FIRST_TOKEN, 200.0)
        answer, _ = latency_recommendation(mean, latencies, busy(), LONG_SERVED, NOW)
        assert recommended(answer).reason is DecisionReason.REAL_TIME_DEMAND
        late = replace(mean, percentile=0.95)
        answer, _ = latency_recommendation(late, latencies, busy(), LONG_SERVED, NOW)
        assert recommended(answer).reason is DecisionReason.LATENCY_OBJECTIVE
        assert "(p95)" in recommended(answer).clause

"""The fluid simulation against arithmetic done by hand."""

import numpy as np
import pytest

from r1_evaluation.simulator.clairvoyant import least_paid
from r1_evaluation.simulator.fluid import (
    service_outcome,
    serving_counts,
    serving_counts_with_drawn_starts,
)
from r1_evaluation.traces.load import RateTrace, RecordedRequest, RequestTrace, UnreadableTrace
from r1_evaluation.traces.scenario import STEP_SECONDS, Ints, Scenario, scenario_of
from r1_evaluation.traces.windows import coming_max, running_max


def whole(*counts: int) -> Ints:
    return np.array(counts, dtype=np.int64)


def plain_world(
    demand: list[float], start_steps: int, scored: list[bool] | None = None
) -> Scenario:
    steps = len(demand)
    return Scenario(
        name="by-hand",
        demand=np.array(demand),
        reading=np.array(demand),
        known=np.ones(steps, dtype=bool),
        scored=np.array(scored or [True] * steps),
        begin=0,
        test_from=0,
        capacity=1.0,
        start_steps=start_steps,
    )


class TestServing:
    def test_a_replica_serves_after_its_start_up_time(self) -> None:
        assert serving_counts(whole(1, 3, 3, 3, 3), 2).tolist() == [1, 1, 1, 3, 3]

    def test_scale_down_removes_starting_replicas_first(self) -> None:
        # Two are started and one of them is stopped while both start: the first two still serve.
        assert serving_counts(whole(2, 4, 3, 3, 3), 2).tolist() == [2, 2, 2, 3, 3]

    def test_a_stopped_replica_starts_again(self) -> None:
        assert serving_counts(whole(3, 2, 3, 3, 3, 3), 2).tolist() == [3, 2, 2, 2, 3, 3]

    def test_drawn_starts_of_one_length_are_the_running_minimum(self) -> None:
        counts = np.random.default_rng(5).integers(1, 9, 500)
        assert (
            serving_counts_with_drawn_starts(counts, [4], seed=0).tolist()
            == serving_counts(counts, 4).tolist()
        )

    def test_drawn_starts_differ_by_seed_and_not_within_one(self) -> None:
        counts = np.random.default_rng(5).integers(1, 9, 500)
        first = serving_counts_with_drawn_starts(counts, [1, 2, 9], seed=0)
        assert (
            first.tolist() == serving_counts_with_drawn_starts(counts, [1, 2, 9], seed=0).tolist()
        )
        assert (
            first.tolist() != serving_counts_with_drawn_starts(counts, [1, 2, 9], seed=1).tolist()
        )
        assert (first <= counts).all()


class TestOutcome:
    def test_overload_is_a_share_of_requests_not_of_time(self) -> None:
        scenario = plain_world([1.0, 1.0, 6.0, 2.0], start_steps=1)
        end = service_outcome(scenario, whole(2, 2, 2, 2), whole(2, 2, 2, 2))
        assert end.overload == pytest.approx(0.6)
        assert end.paid == 8

    def test_a_starting_replica_is_paid_and_does_not_serve(self) -> None:
        scenario = plain_world([1.0, 2.0, 2.0, 2.0], start_steps=2)
        counts = whole(1, 2, 2, 2)
        end = service_outcome(scenario, counts, serving_counts(counts, 2))
        assert end.paid == 7
        assert end.overload == pytest.approx(4 / 7)

    def test_gaps_are_not_scored(self) -> None:
        scenario = plain_world([1.0, 9.0, 1.0], start_steps=1, scored=[True, False, True])
        end = service_outcome(scenario, whole(1, 1, 1), whole(1, 1, 1))
        assert (end.paid, end.overload) == (2, 0.0)

    def test_actions_are_counted_per_hour(self) -> None:
        scenario = plain_world([1.0] * 240, start_steps=1)
        counts = np.repeat(whole(1, 2, 1), 80)
        assert service_outcome(scenario, counts, counts).actions_per_hour == pytest.approx(2.0)


class TestClairvoyant:
    def test_the_first_start_is_free_and_later_ones_are_paid(self) -> None:
        # One all the time (6), a second for two steps and for its start of one before (3).
        assert least_paid(plain_world([1, 1, 1, 2, 2, 1], start_steps=1)) == 9

    def test_a_gap_no_longer_than_a_start_is_bridged(self) -> None:
        # Level two: steps 1 and 4; between them two steps, as long as a start.
        assert least_paid(plain_world([1, 2, 1, 1, 2], start_steps=2)) == 5 + 1 + 4
        # A longer gap is not: the second start costs its two steps.
        assert least_paid(plain_world([1, 2, 1, 1, 1, 2], start_steps=2)) == 6 + 1 + 1 + 3

    def test_no_counts_without_overload_are_cheaper(self) -> None:
        drawn = np.random.default_rng(2)
        demand = np.abs(np.cumsum(drawn.normal(0, 0.4, 400))) + 0.5
        scenario = plain_world(demand.tolist(), start_steps=3)
        need = np.ceil(coming_max(scenario.demand, scenario.start_steps)).astype(np.int64)
        counts = np.asarray(running_max(need, 3), dtype=np.int64)
        end = service_outcome(scenario, counts, serving_counts(counts, 3))
        assert end.overload == 0.0
        assert end.paid >= least_paid(scenario)


class TestWorld:
    def test_demand_is_linear_between_the_middles_of_buckets(self) -> None:
        per_minute = (60.0, 60.0, 120.0, 120.0) * 30
        scenario = scenario_of(RateTrace("t", 60.0, per_minute), 60)
        assert scenario.demand[:8] == pytest.approx([1, 1, 1, 1, 1, 1, 1.125, 1.375])
        assert scenario.start_steps == 4

    def test_a_reading_is_a_minute_that_ended_a_step_ago(self) -> None:
        scenario = scenario_of(RateTrace("t", 60.0, tuple(float(60 * n) for n in range(100))), 60)
        step = 200
        assert scenario.reading[step] == pytest.approx(scenario.demand[step - 5 : step - 1].mean())

    def test_the_highest_bucket_needs_20_replicas_at_the_planned_utilization(self) -> None:
        per_minute = (6000.0,) + (60.0,) * 98 + (840.0,)
        scenario = scenario_of(RateTrace("t", 60.0, per_minute), 60)
        assert scenario.capacity == pytest.approx(14.0 / (0.7 * 20))

    def test_a_start_is_rounded_up_to_whole_steps(self) -> None:
        assert scenario_of(RateTrace("t", 60.0, (60.0,) * 9), 18).start_steps == 2

    def test_gaps_are_bridged_and_not_scored(self) -> None:
        rates = [60.0] * 100
        trace = RateTrace("t", 60.0, (*rates[:80], None, None, *rates[:18]))
        scenario = scenario_of(trace, 60)
        assert scenario.demand == pytest.approx(1.0)
        assert np.count_nonzero(~scenario.known) == 8
        assert not scenario.scored[~scenario.known].any()

    @pytest.mark.parametrize(("days", "tested"), [(2, 1), (9, 4.5), (14, 5), (21, 7), (60, 8)])
    def test_the_last_third_is_tested_within_bounds(self, days: int, tested: float) -> None:
        scenario = scenario_of(RateTrace("t", 600.0, (60.0,) * (days * 144)), 60)
        assert (len(scenario.demand) - scenario.test_from) * STEP_SECONDS == tested * 86_400

    def test_single_requests_are_counted_by_the_minute(self) -> None:
        requests = tuple(RecordedRequest(100 + 2.0 * n, 10, 10) for n in range(300))
        scenario = scenario_of(RequestTrace("t", requests), 60)
        assert scenario.demand == pytest.approx(0.5)

    @pytest.mark.parametrize("rates", [(60.0, 60.0), (60.0,) * 5 + (0.0,) * 5])
    def test_a_trace_without_a_test_window_is_refused(self, rates: tuple[float, ...]) -> None:
        with pytest.raises(UnreadableTrace, match="test"):
            scenario_of(RateTrace("t", 60.0, rates), 60)

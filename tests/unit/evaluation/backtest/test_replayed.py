"""The controller's own code in a closed loop, beside the board's courses and by itself."""

from dataclasses import replace

import numpy as np
import pytest

from r1_evaluation.backtest.backtest import policy_inputs, run, scenario_at_capacity
from r1_evaluation.backtest.policy_under_test import (
    PolicyUnderTest,
    policy_of_query,
    policy_of_resource,
)
from r1_evaluation.backtest.replay import replay_policy
from r1_evaluation.backtest.whatif import (
    SettingChange,
    SettingsOutcome,
    _highest_that_keeps,
    evaluate_change,
)
from r1_evaluation.policies import inputs as inputs_module
from r1_evaluation.policies.forecast_replay import LEVELS, ReplayedForecast
from r1_evaluation.policies.production import ours_no_forecast
from r1_evaluation.simulator.fluid import serving_counts
from r1_evaluation.traces.load import RateTrace, UnreadableTrace
from r1_evaluation.traces.scenario import Scenario
from r1_operator.api.scaling import Activation, MetricType
from r1_operator.api.v1 import parse
from r1_operator.plan.scaling.policy import ForecastPolicy, MetricTarget

DAY = 1440


def trace(days: int = 2, peak: float = 40.0) -> RateTrace:
    """Minutes of a daily wave between 5 and `peak` requests/s."""
    minute = np.arange(days * DAY)
    wave = (1 - np.cos(2 * np.pi * minute / DAY)) / 2
    return RateTrace("wave", 60.0, tuple((60 * (5 + (peak - 5) * wave)).tolist()))


def candidate(**changes: object) -> PolicyUnderTest:
    plain = policy_of_query("sum(up)", 10.0, 60)
    never = ForecastPolicy(Activation.NEVER)
    return replace(plain, policy=replace(plain.policy, forecast=never, **changes))  # type: ignore[arg-type]


def test_the_replay_equals_the_leaderboard_without_a_queue() -> None:
    tried = candidate()
    scenario = scenario_at_capacity(trace(), tried, 60.0)
    replay = replay_policy(scenario, tried)
    replica_counts = ours_no_forecast(policy_inputs(scenario, tried), 0.7)
    assert not replay.queue_seconds.any()
    np.testing.assert_array_equal(replay.counts[20:], replica_counts[20:])
    np.testing.assert_array_equal(
        replay.serving, serving_counts(replay.counts, scenario.start_steps)
    )


def test_the_replay_stays_within_bounds_with_a_queue() -> None:
    tried = candidate(min_replicas=2, max_replicas=3)
    replay = replay_policy(scenario_at_capacity(trace(), tried, 60.0), tried)
    assert replay.counts.min() == 2
    assert replay.counts.max() == 3
    assert replay.queue_seconds.max() == pytest.approx(40.0 / 30.0 * 30.0, rel=0.01)


def test_tokens_are_replayed_as_tokens() -> None:
    plain = candidate(metrics=(MetricTarget(MetricType.TOKENS_PER_SECOND, 10.0),))
    replay = replay_policy(scenario_at_capacity(trace(), plain, 60.0), plain)
    other = candidate()
    same = replay_policy(scenario_at_capacity(trace(), other, 60.0), other)
    np.testing.assert_array_equal(replay.counts, same.counts)


def silent(scenario: Scenario) -> ReplayedForecast:
    """A forecaster that has not learned yet."""
    steps = len(scenario.demand) - scenario.begin
    return ReplayedForecast(np.full((steps, len(LEVELS)), np.nan), np.zeros(steps, dtype=bool))


def test_a_backtest_has_the_rows_of_its_verdict(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inputs_module, "replay_forecast", silent)
    result = run(trace(), candidate(), 60.0, policies=("static",))
    names = [row.name for row in result.board.policies]
    assert names == ["ours", "ours-no-forecast", "hpa", "static"]
    out = result.to_json()
    assert out["trace"] == "wave"
    assert result.configured.ours.overload <= 0.005
    assert result.configured.scored_hours == pytest.approx(24.0, rel=0.01)
    alone = next(row for row in result.board.policies if row.name == "ours-no-forecast")
    at_target = next(point for point in alone.curve if point.target == 0.7)
    assert result.configured.ours.overload == pytest.approx(at_target.overload, abs=1e-3)


class TestWhatIf:
    def test_fewer_replicas_cost_less_and_serve_worse(self) -> None:
        what_if = evaluate_change(
            trace(3), candidate(), SettingChange(max_replicas=3), 60.0, 86_400.0, 0.3
        )
        assert what_if.hours == pytest.approx(24.0, rel=0.01)
        assert what_if.changed.replica_hours < what_if.current.replica_hours
        assert what_if.changed.overload > what_if.current.overload
        assert what_if.changed.late is not None
        assert what_if.current.late is not None
        assert what_if.changed.late > what_if.current.late
        assert what_if.changed.most == 3
        assert what_if.changed.at_maximum_share > 0.3
        assert (what_if.highest_percent, what_if.at_highest) == (None, None)

    def test_the_highest_utilization_within_the_objective_is_found(self) -> None:
        what_if = evaluate_change(trace(3), candidate(), SettingChange(), 60.0, 86_400.0, 0.3)
        assert what_if.highest_percent is not None
        assert what_if.at_highest is not None
        assert what_if.at_highest.late is not None
        assert what_if.at_highest.late <= 0.01
        assert what_if.current == what_if.changed

    @pytest.mark.parametrize("limit", [30, 35, 60, 90, 95])
    def test_bisection_finds_the_highest_utilization(self, limit: int) -> None:
        tried: list[int] = []

        def at(percent: int) -> SettingsOutcome:
            tried.append(percent)
            return SettingsOutcome(1.0, 0.0, 0.0 if percent <= limit else 0.5, 1, 0.0, 0.0)

        assert _highest_that_keeps(at)[0] == limit
        assert len(tried) <= 6

    def test_a_short_history_is_an_error(self) -> None:
        with pytest.raises(UnreadableTrace, match="shorter than the requested"):
            evaluate_change(trace(1), candidate(), SettingChange(), 60.0, 3 * 86_400.0)

    def test_bounds_that_cross_are_refused(self) -> None:
        with pytest.raises(ValueError, match="above maxReplicas"):
            SettingChange(min_replicas=9, max_replicas=3).of(candidate())


@pytest.mark.parametrize(("gpus", "most"), [(11, 5), (40, 9)])
def test_a_gpu_budget_bounds_every_policy(gpus: int, most: int) -> None:
    spec = {
        "resources": {"limits": {"nvidia.com/gpu": 2}},
        "autoscaling": {
            "maxReplicas": 9,
            "metrics": [{"type": "RequestsPerSecond", "target": 12}],
            "forecast": {"activation": "Never"},
            "budget": {"gpus": gpus},
        },
    }
    manifest = {"apiVersion": "deepseek.ai/v1", "kind": "R1Inference", "metadata": {"name": "r1"}}
    tried = policy_of_resource(parse({**manifest, "spec": spec}))
    scenario = scenario_at_capacity(trace(peak=200.0), tried, 60.0)
    bench = policy_inputs(scenario, tried)
    assert (bench.min_replicas, bench.max_replicas) == (1, most)
    assert replay_policy(scenario, tried).counts.max() == most

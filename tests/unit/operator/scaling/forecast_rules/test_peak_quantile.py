"""Quantile that replicas are planned for, and the tolerance of a scale-down."""

from collections.abc import Callable
from typing import Any

import pytest

from r1_operator.plan.scaling.forecast_rules.peak_quantile import peak_quantile
from r1_operator.plan.scaling.policy import DownBehavior, ForecastPolicy, ScalingPolicy
from r1_operator.plan.scaling.real_time.recommendations import within_tolerance

Build = Callable[..., Any]


@pytest.mark.parametrize(
    ("lead", "window", "quantile"),
    [
        (300.0, 150.0, 0.91),  # 5 x 300 / 150 = 10 times: 10 / 11
        (60.0, 30.0, 0.91),
        (300.0, 300.0, 0.83),  # a needless one is kept as long as a missing one is missed
        (300.0, 60.0, 0.96),  # a needless replica stops soon
        (5.0, 500.0, 0.5),  # never below the median
        (1e6, 1.0, 0.99),
        (0.0, 0.0, 0.83),
    ],
)
def test_the_critical_ratio(lead: float, window: float, quantile: float) -> None:
    assert peak_quantile(None, lead, window) == quantile


def test_the_lead_chooses_the_quantile_and_the_user_overrules_it() -> None:
    policy = ScalingPolicy(1, 10, ())
    assert policy.peak_quantile(300.0) == 0.91
    # Beyond ten minutes the window stays at the policy's five: waiting becomes more expensive than waste.
    assert policy.peak_quantile(1800.0) == 0.97
    brisk = ScalingPolicy(1, 10, (), down=DownBehavior(stabilization_window_seconds=30))
    assert brisk.peak_quantile(300.0) == 0.98
    configured = ScalingPolicy(1, 10, (), forecast=ForecastPolicy(quantile=0.8))
    assert configured.peak_quantile(300.0) == 0.8


def test_a_quantile_of_the_users_own_is_named_without_a_reason(
    stage: Build, forecast: Build
) -> None:
    story = stage(forecast=ForecastPolicy(quantile=0.9))
    decision = story.once(7.0, forecast(40.0))
    assert "(90% quantile); current demand: " in decision.message
    assert decision.inputs["forecast"]["quantile"] == 0.9
    assert decision.inputs["policy"]["shortagePrice"] is None


def test_the_inputs_contain_the_sources_of_the_quantile(stage: Build, forecast: Build) -> None:
    decision = stage().once(7.0, forecast(40.0))
    assert decision.inputs["forecast"]["quantile"] == 0.91
    assert (
        decision.inputs["policy"] | {"quantile": None, "shortagePrice": 5.0}
        == (decision.inputs["policy"])
    )


@pytest.mark.parametrize(
    ("worth", "retained"), [(9.0, 10), (8.99, 9), (0.9, 1), (0.89, 0), (0.0, 0)]
)
def test_demand_within_a_tenth_keeps_the_count(worth: float, retained: int) -> None:
    assert within_tolerance(worth) == retained


class TestDown:
    """Ten replicas of ten requests/s at 70 %: needed at 70 requests/s, kept down to 63."""

    @pytest.mark.parametrize(("rate", "replicas"), [(63.0, 10), (62.0, 9)])
    def test_a_dip_within_the_tolerance_lowers_nothing(
        self, stage: Build, rate: float, replicas: int
    ) -> None:
        story = stage(replicas=10)
        story.play(10, 70.0)
        assert story.play(700, rate).replicas == replicas

    def test_a_rise_within_the_tolerance_is_followed_at_once(self, stage: Build) -> None:
        story = stage(replicas=10)
        assert story.play(2, 70.1).replicas == 11

    def test_an_unchanged_count_is_explained(self, stage: Build) -> None:
        story = stage(replicas=10)
        decision = story.play(700, 63.0)
        assert decision.message == (
            "Keeping 10 replicas: demand in the last 5 min reached at least 90% of the planned load of "
            "10 (current demand needs 9)."
        )

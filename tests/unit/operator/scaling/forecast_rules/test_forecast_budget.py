"""Forecast budget: balance, exhaustion and pause."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from r1_operator.api.scaling import MetricType
from r1_operator.plan.scaling.forecast_rules.forecast_budget import (
    MAX_BALANCE_SECONDS,
    RESUME_SHARE,
    SHARE,
    ForecastBudget,
    baseline,
)
from r1_operator.plan.scaling.policy import MetricTarget
from r1_operator.plan.scaling.reasons import DecisionMode

Build = Callable[..., Any]
FULL = SHARE * MAX_BALANCE_SECONDS * 10
LOOK = 15.0


def watched(forecast_budget: ForecastBudget, current: int, seconds: float) -> ForecastBudget:
    """Ten replicas of the HPA, `current` of the policy, charged every 15 s."""
    for _ in range(round(seconds / LOOK)):
        forecast_budget = forecast_budget.charged(current, 10, forecast_budget.at + LOOK)
    return forecast_budget


def test_a_forecast_budget_starts_full() -> None:
    assert ForecastBudget().charged(50, 10, 100.0) == ForecastBudget(FULL, False, 100.0)


def test_as_many_as_a_plain_autoscaler_spend_nothing() -> None:
    begun = ForecastBudget().charged(10, 10, 0.0)
    assert watched(begun, 10, 86_400).balance == FULL


def test_twice_as_many_spend_it_in_an_hour() -> None:
    begun = ForecastBudget().charged(10, 10, 0.0)
    assert not watched(begun, 20, 3750).exhausted  # 34,560 replica-seconds at 9.2 a second
    assert watched(begun, 20, 3765).exhausted


def test_the_forecast_budget_compares_a_high_target_with_an_hpa_at_70_percent() -> None:
    assert baseline(7, 0.5) == 7
    assert baseline(7, 0.7) == 7
    assert baseline(7, 0.9) == pytest.approx(9)


def test_a_spent_forecast_budget_pauses_until_half_full() -> None:
    gone = ForecastBudget(0.0, True, 0.0)
    half = RESUME_SHARE * FULL / 0.8  # seconds, while no more replicas run than the HPA's
    assert watched(gone, 10, half - 30).exhausted
    assert not watched(gone, 10, half + 30).exhausted


def test_a_negative_balance_is_bounded_and_a_gap_counts_for_a_minute() -> None:
    assert watched(ForecastBudget(0.0, True, 0.0), 1000, 86_400).balance == -FULL
    begun = ForecastBudget().charged(10, 10, 0.0)
    assert begun.charged(20, 10, 1e6).balance == pytest.approx(FULL - 9.2 * 60.0)


def test_a_forecast_without_budget_is_shown_and_does_not_act(stage: Build, forecast: Build) -> None:
    story = stage()
    story.once(7.0)
    story.history = replace(story.history, forecast_budget=ForecastBudget(0.0, True, story.now - 1))
    decision = story.once(7.0, forecast(16.0))
    assert (decision.replicas, decision.mode) == (1, DecisionMode.REACTIVE)
    assert decision.forecast is not None
    assert decision.forecast.message.startswith(
        "Paused: the forecast budget is spent, 8% more replicas than a HorizontalPodAutoscaler would "
        "run; forecast for the next 45 s: up to 16 requests/s"
    )


def test_replicas_for_other_metrics_are_not_charged_to_the_forecast(
    stage: Build, forecast: Build
) -> None:
    elsewhere = MetricTarget(MetricType.EXTERNAL, 1.0, name="cache", query="up")
    story = stage(metrics=(MetricTarget(MetricType.REQUESTS_PER_SECOND, 10.0), elsewhere))
    story.once(7.0)
    story.once(7.0, forecast(16.0))
    assert story.history.forecast_budget.balance is None

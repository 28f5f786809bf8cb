"""Approval of a forecast by the named R1Backtest, present or missing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from r1_common.contracts.unavailable import Unavailable
from r1_operator.api.backtest.spec import autoscaling_hash
from r1_operator.api.v1 import R1Inference, parse
from r1_operator.plan.scaling.forecast_rules.forecast_approval import (
    APPROVING_FINDINGS,
    MAX_AGE_SECONDS,
    NOT_READ,
    BacktestTarget,
    apply_approval,
    approval_of,
    target_of,
)
from r1_operator.plan.signals.forecast import ForecastGate, ReceivedForecast
from r1_operator.plan.status.conditions import rfc3339

NOW = 1_700_000_000.0


def inference(maximum: int = 10, **forecast: Any) -> R1Inference:
    metrics = [{"type": "RequestsPerSecond", "target": 8}]
    autoscaling = {"maxReplicas": maximum, "metrics": metrics, "forecast": forecast}
    return parse(
        {
            "apiVersion": "deepseek.ai/v1",
            "kind": "R1Inference",
            "metadata": {"name": "chat", "namespace": "team"},
            "spec": {"autoscaling": autoscaling},
        }
    )


def target_named(**forecast: Any) -> BacktestTarget:
    target = target_of(inference(**{"backtestName": "november", **forecast}))
    assert target is not None
    return target


def backtest(finding: str = "Cheaper", **status: Any) -> dict[str, Any]:
    """A stored R1Backtest that finished an hour ago, with a result for `inference()`."""
    verdict = {"finding": finding, "message": "Ours costs 4.1% less.", "activation": "Always"}
    tried = autoscaling_hash(inference().spec.autoscaling)
    ended = {"phase": "Succeeded", "finishedAt": rfc3339(NOW - 3600), "verdict": verdict}
    return {
        "spec": {"inferenceName": "chat"},
        "status": {"autoscalingHash": tried, **ended, **status},
    }


def waiting(phase: str, reason: str, message: str) -> dict[str, Any]:
    complete = {"type": "Complete", "status": "False", "reason": reason, "message": message}
    return {
        "spec": {"inferenceName": "chat"},
        "status": {"phase": phase, "conditions": [complete]},
    }


def test_without_a_backtest_name_no_approval_is_required() -> None:
    assert target_of(inference()) is None
    assert target_of(replace(inference(), spec=replace(inference().spec, autoscaling=None))) is None


@pytest.mark.parametrize("finding", sorted(APPROVING_FINDINGS))
def test_a_verdict_for_the_present_policy_lets_the_forecast_act(finding: str) -> None:
    forecast_approval = approval_of(target_named(), backtest(finding), NOW)
    assert (forecast_approval.approved, forecast_approval.reason) == (True, "BacktestPassed")
    assert finding in forecast_approval.message


@pytest.mark.parametrize(
    ("stored", "reason", "expected_message"),
    [
        (None, "BacktestMissing", "create it with inferenceName chat"),
        ({"spec": {"inferenceName": "other"}}, "BacktestTargetMismatch", "tested other"),
        ({"spec": {"inferenceName": "chat"}}, "BacktestRunning", "it has no status yet"),
        (waiting("Pending", "Queued", "x/y runs."), "BacktestRunning", "Queued: x/y runs"),
        (waiting("Running", "Running", "Job runs."), "BacktestRunning", "wait for its result"),
        (waiting("Failed", "Killed", "OOMKilled"), "BacktestFailed", "create a new one"),
        (
            backtest("MoreExpensive"),
            "BacktestRejected",
            "Ours costs 4.1% less. Change spec.autoscaling",
        ),
        (backtest("NeitherMeetsSLO"), "BacktestRejected", "Neither"),
        (backtest(verdict={}), "BacktestRejected", "no result"),
        (backtest(autoscalingHash="0" * 32), "BacktestStale", "another spec.autoscaling"),
        (
            backtest(finishedAt=rfc3339(NOW - MAX_AGE_SECONDS - 86_400)),
            "BacktestStale",
            "91 days ago",
        ),
    ],
)
def test_without_an_approval_the_forecast_does_not_act_and_the_message_has_the_action(
    stored: dict[str, Any] | None, reason: str, expected_message: str
) -> None:
    forecast_approval = approval_of(target_named(), stored, NOW)
    assert (forecast_approval.approved, forecast_approval.reason) == (False, reason)
    assert expected_message in forecast_approval.message
    assert "november" in forecast_approval.message


def test_naming_the_evidence_is_no_other_policy() -> None:
    named = inference(backtestName="november").spec.autoscaling
    assert autoscaling_hash(named) == autoscaling_hash(inference().spec.autoscaling)
    other = inference(20, backtestName="november").spec.autoscaling
    assert autoscaling_hash(other) != autoscaling_hash(named)


FORECAST = ReceivedForecast(
    "lstm", NOW, NOW + 60, 45.0, {0.5: 1.0}, (), ForecastGate(True, "BeatsBaselines", "x")
)


def test_a_closed_gate_of_the_forecaster_applies_beside_an_approval() -> None:
    good = approval_of(target_named(), backtest(), NOW)
    assert apply_approval(FORECAST, None) is FORECAST
    assert apply_approval(FORECAST, good) is FORECAST
    shut = replace(FORECAST, gate=ForecastGate(False, "LosesToLastValue", "y"))
    assert apply_approval(shut, good) is shut
    assert apply_approval(shut, NOT_READ) is shut, "the forecaster's own reason is the nearer one"
    held = apply_approval(FORECAST, NOT_READ)
    assert isinstance(held, ReceivedForecast)
    assert held.gate == ForecastGate(False, "BacktestNotRead", NOT_READ.message)
    away = Unavailable("Training", "Soon.")
    assert apply_approval(away, NOT_READ) is away
    assert apply_approval(None, NOT_READ) is None

"""Timestamps of API objects and forecasts come from other clocks: no age is negative or endless."""

from dataclasses import replace
from typing import Any

import pytest

from r1_operator.api.backtest.spec import BacktestSpec, R1Backtest
from r1_operator.api.names import BacktestReason, Label
from r1_operator.kube.kinds import Json, Key
from r1_operator.kube.store import PodStore
from r1_operator.plan.backtest.lifecycle import START_TIMEOUT_SECONDS, StartPlan, plan_backtest
from r1_operator.plan.backtest.observed import (
    BacktestObservation,
    BacktestReport,
    BacktestSite,
    Run,
    Waiting,
)
from r1_operator.plan.scaling.decide import fixed
from r1_operator.plan.signals.forecast import ReceivedForecast, parse_forecast
from r1_operator.plan.status.conditions import rfc3339
from r1_operator.plan.status.diagnosis import SANDBOX_SECONDS, diagnose, requeue_delay
from r1_operator.plan.status.resource_status import plan_status

STEPS = [-3600.0, 600.0, 365 * 86_400.0]
NOW = 1_700_000_000.0


def pod_of(scheduled_at: float, version: int = 1) -> Json:
    conditions = [
        {"type": "PodScheduled", "status": "True", "lastTransitionTime": rfc3339(scheduled_at)},
        {"type": "PodReadyToStartContainers", "status": "False"},
    ]
    metadata = {
        "name": "r1-0",
        "namespace": "default",
        "uid": "p",
        "resourceVersion": str(version),
        "labels": {Label.RESOURCE.value: "r1"},
        "creationTimestamp": rfc3339(scheduled_at),
    }
    return {"metadata": metadata, "spec": {}, "status": {"conditions": conditions}}


@pytest.mark.parametrize("skew", STEPS)
def test_a_pod_without_a_sandbox_is_reported_15_s_after_it_was_observed(
    resource: Any, observed: Any, skew: float
) -> None:
    """Also after a restart of the operator: it waits the whole time again."""
    clock = [NOW]
    view = PodStore(lambda: clock[0])
    view.put(pod_of(NOW + skew))
    wanted = resource({"replicas": 1})

    def current() -> Any:
        return observed(wanted, replicas=1, pods=view.of(Key("default", "r1")))

    assert diagnose(current(), clock[0]) is None
    assert requeue_delay(current(), clock[0]) == SANDBOX_SECONDS
    clock[0] += SANDBOX_SECONDS - 1
    view.put(pod_of(NOW + skew, version=2))
    assert diagnose(current(), clock[0]) is None
    clock[0] += 2
    problem = diagnose(current(), clock[0])
    assert problem is not None
    assert problem.reason == "VolumeNotMounted"


def test_a_time_in_the_future_is_age_zero(resource: Any, observed: Any, pod: Any) -> None:
    early = replace(pod("r1-0"), lacks_sandbox=True, scheduled_at=NOW + 3600)
    snapshot = observed(resource({"replicas": 1}), replicas=1, pods=(early,))
    assert requeue_delay(snapshot, NOW) == SANDBOX_SECONDS


@pytest.mark.parametrize("offset", STEPS)
def test_the_status_is_dated_by_the_wall_clock(
    resource: Any, observed: Any, decision: Any, offset: float
) -> None:
    autoscaled = {
        "autoscaling": {
            "minReplicas": 1,
            "maxReplicas": 9,
            "metrics": [{"type": "RequestsPerSecond", "target": 10}],
        }
    }
    wanted = resource(autoscaled, status={"desiredReplicas": 3})
    snapshot = replace(observed(wanted, replicas=3), wall_offset=offset)
    made = replace(fixed(4, 3, NOW - 5), message="m")
    status = plan_status(snapshot, made, NOW)
    assert status["lastScale"]["at"] == rfc3339(NOW - 5 + offset)
    assert {one["lastTransitionTime"] for one in status["conditions"]} == {rfc3339(NOW + offset)}


def backtest(**spec: Any) -> R1Backtest:
    return R1Backtest("b", "team", BacktestSpec("r1", **spec), uid="u1", generation=1)


def observed_run(run: Run, **more: Any) -> BacktestObservation:
    return BacktestObservation(
        backtest(), BacktestSite("r1-system", "image", "http://p", {}), run=run, **more
    )


@pytest.mark.parametrize("skew", STEPS)
def test_the_answer_of_a_backtest_is_awaited_for_30_s_by_our_own_clock(skew: float) -> None:
    run = Run("r1bt-u1", "j", NOW + skew, "h", 60, ended_at=NOW + skew, end_noticed_at=NOW)
    assert plan_backtest(observed_run(run), StartPlan(), NOW + 29).status["phase"] == "Running"
    assert plan_backtest(observed_run(run), StartPlan(), NOW + 31).status["phase"] == "Failed"


def test_a_backtest_is_not_given_up_for_a_time_in_the_future() -> None:
    waiting = Waiting(BacktestReason.UNSCHEDULABLE, "no node", NOW + 3600)
    planned = plan_backtest(
        observed_run(Run("r1bt-u1", "j", NOW, "h", 60), waiting=waiting), StartPlan(), NOW
    )
    assert planned.status["phase"] == "Running"
    late = replace(waiting, since=NOW - START_TIMEOUT_SECONDS)
    given_up = plan_backtest(
        observed_run(Run("r1bt-u1", "j", NOW, "h", 60), waiting=late), StartPlan(), NOW
    )
    assert given_up.status["phase"] == "Failed"


def test_a_finished_backtest_is_deleted_after_its_ttl() -> None:
    """Its end lies an hour in the future: it ended now, and the hour is not added."""
    run = Run("r1bt-u1", "j", NOW, "h", 60, ended_at=NOW + 3600, end_noticed_at=NOW)
    answer = BacktestReport(1, "Error", "x")
    kept_run = replace(
        observed_run(run, report=answer), backtest=backtest(ttl_seconds_after_finished=120)
    )
    failed = plan_backtest(kept_run, StartPlan(), NOW)
    assert failed.requeue_after == 120


ANSWER: dict[str, Any] = {
    "series": "default/r1",
    "state": "Ready",
    "reason": "r",
    "message": "m",
    "model": "lstm",
    "gate": {"open": True, "reason": "r", "message": "m", "scores": {}},
    "peakOverLead": {"0.9": 12.0},
    "coverage": {},
    "lastObserved": {"at": 1.0, "value": 9.0},
}


def answer(issued_at: float, **more: Any) -> dict[str, Any]:
    points = [{"at": issued_at + 60, "quantiles": {"0.9": 3.0}}]
    return {
        **ANSWER,
        "issuedAt": issued_at,
        "validUntil": issued_at + 60,
        "points": points,
        **more,
    }


@pytest.mark.parametrize("skew", [0.0, *STEPS])
def test_a_forecast_is_read_on_the_operators_clock(skew: float) -> None:
    forecast = parse_forecast(answer(NOW + skew - 20, ageSeconds=20.0), 45.0, received_at=NOW)
    assert isinstance(forecast, ReceivedForecast)
    assert (forecast.issued_at, forecast.valid_until) == (NOW - 20, NOW + 40)
    assert forecast.points[0].at == NOW + 40
    assert forecast.fault(NOW + 45) is None
    assert forecast.fault(NOW + 55) is not None


@pytest.mark.parametrize(("skew", "issued"), [(0.0, -20.0), *((step, 0.0) for step in STEPS)])
def test_a_forecast_without_an_age_is_valid_until_its_end(skew: float, issued: float) -> None:
    forecast = parse_forecast(answer(NOW + skew - 20), 45.0, received_at=NOW)
    assert isinstance(forecast, ReceivedForecast)
    assert forecast.issued_at == NOW + issued
    assert forecast.valid_until == NOW + issued + 60


def test_an_age_that_is_no_number_is_no_forecast() -> None:
    assert not isinstance(
        parse_forecast(answer(NOW, ageSeconds="old"), 45.0, received_at=NOW), ReceivedForecast
    )

"""Metrics of the last decision of each resource."""

from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry

from r1_common.contracts.unavailable import Unavailable
from r1_operator.api.scaling import ClassName, ForecastSpec, MetricType
from r1_operator.api.v1 import parse
from r1_operator.controller.scaling.scaled_resource import (
    LastDecision,
    ScaledResource,
    ScalingConfig,
)
from r1_operator.controller.scaling.scaling_metrics import ScalingCollector
from r1_operator.kube.kinds import Key
from r1_operator.plan.scaling.inputs import ScalingInputs
from r1_operator.plan.scaling.policy import policy_of
from r1_operator.plan.scaling.seat_reservation import ClassReservation, ReservationReason
from r1_operator.plan.signals.demand import Demand
from r1_operator.plan.signals.forecast import ForecastGate, ReceivedForecast

KEY = Key("team", "chat")
LABELS = {"inference_namespace": "team", "inference": "chat"}
RATE = LABELS | {"metric": "RequestsPerSecond"}
FORECAST = ReceivedForecast(
    model="lstm",
    issued_at=1.0,
    valid_until=61.0,
    lead_seconds=45.0,
    peak_over_lead={0.5: 14.0, 0.95: 28.0},
    points=(),
    gate=ForecastGate(acts=True, reason="BeatsBaselines", message="It does."),
    metric=MetricType.REQUESTS_PER_SECOND,
)
SEEN = ScalingInputs(
    current=1,
    ready=1,
    demand=Demand(
        requests_per_second=21.0,
        tokens_per_second=2100.0,
        in_flight=3.0,
        queued=1.0,
        oldest_wait_seconds=0.0,
    ),
    forecast=FORECAST,
)


def scraped(state: ScaledResource) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(ScalingCollector(lambda: [(KEY, state)]))
    return registry


def followed(observed: ScalingInputs | None) -> ScaledResource:
    """A resource with two metrics: 10 requests/s and 8 concurrent requests per replica at 70 %."""
    resource = parse(
        {
            "apiVersion": "deepseek.ai/v1",
            "kind": "R1Inference",
            "metadata": {"name": "chat", "namespace": "team", "uid": "u", "generation": 1},
            "spec": {
                "autoscaling": {
                    "maxReplicas": 4,
                    "metrics": [
                        {"type": "RequestsPerSecond", "target": 10},
                        {"type": "Concurrency", "target": 8},
                    ],
                }
            },
        },
        strict=True,
    )
    assert resource.spec.autoscaling is not None
    policy = policy_of(resource.spec.autoscaling)
    return ScaledResource(
        ScalingConfig(uid="u", generation=1, policy=policy, forecast=ForecastSpec(), seats=8),
        last=LastDecision(target=3, inputs=observed),
    )


def test_demand_and_the_band_of_its_forecast_in_their_unit_and_in_replicas() -> None:
    at = scraped(followed(SEEN)).get_sample_value
    assert at("r1_operator_desired_replicas", LABELS) == 3
    assert at("r1_operator_demand", RATE) == 21
    assert at("r1_operator_demand_replicas", RATE) == 3
    assert at("r1_operator_demand", LABELS | {"metric": "Concurrency"}) == 4
    assert at("r1_operator_forecast_peak", RATE | {"quantile": "0.5"}) == 14
    assert at("r1_operator_forecast_peak", RATE | {"quantile": "0.95"}) == 28
    assert at("r1_operator_forecast_peak_replicas", RATE | {"quantile": "0.95"}) == pytest.approx(
        28 / (0.85 * 10)
    )
    assert at("r1_operator_forecast_lead_seconds", LABELS) == 45


def test_the_decision_quantile_is_exported() -> None:
    """The exported level is that of the newsvendor rule or of the spec, not the nearest requested one."""
    forecast = replace(FORECAST, peak_over_lead={0.5: 14.0, 0.91: 25.0, 0.95: 28.0})
    state = followed(replace(SEEN, forecast=forecast))
    at = scraped(state).get_sample_value
    assert at("r1_operator_forecast_quantile", LABELS) == 0.91
    assert at("r1_operator_forecast_decision_quantile_value", RATE) == pytest.approx(25)
    assert at("r1_operator_forecast_decision_quantile_replicas", RATE) == pytest.approx(
        25 / (0.85 * 10)
    )
    own = replace(state.config.policy.forecast, quantile=0.5)
    state.config = replace(state.config, policy=replace(state.config.policy, forecast=own))
    assert at("r1_operator_forecast_quantile", LABELS) == 0.5
    assert at("r1_operator_forecast_decision_quantile_value", RATE) == 14


def test_unknown_values_have_no_sample() -> None:
    missing = Unavailable("NoGateway", "There is none.")
    at = scraped(followed(replace(SEEN, demand=missing, forecast=missing))).get_sample_value
    assert at("r1_operator_demand", RATE) is None
    assert at("r1_operator_forecast_peak", RATE | {"quantile": "0.5"}) is None
    assert at("r1_operator_forecast_lead_seconds", LABELS) is None
    assert at("r1_operator_desired_replicas", LABELS) == 3


def test_before_the_first_decision_no_decision_metrics_are_exported() -> None:
    at = scraped(followed(None)).get_sample_value
    assert at("r1_operator_demand", RATE) is None
    assert at("r1_operator_desired_replicas", LABELS) == 3


def test_a_forecast_of_a_removed_metric_is_not_exported() -> None:
    other = replace(FORECAST, metric=MetricType.TOKENS_PER_SECOND)
    at = scraped(followed(replace(SEEN, forecast=other))).get_sample_value
    assert at("r1_operator_forecast_lead_seconds", LABELS) is None


def test_reserved_seats_are_exported_by_class() -> None:
    state = followed(SEEN)
    held = ClassReservation(ClassName.Q1, 2, 4, ReservationReason.ARRIVALS, "Because.")
    state.last.seat_reservations = (held,)
    at = scraped(state).get_sample_value
    assert at("r1_operator_seats_reserved", LABELS | {"class": "Q1"}) == 4
    assert at("r1_operator_seats_reserved", LABELS | {"class": "Q2"}) is None

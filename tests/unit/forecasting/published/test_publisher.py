"""Values of published forecasts, and of R1Inferences by the operator's request."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

from r1_common.contracts.forecast_request import ForecastRequest, parse_forecast_request
from r1_common.contracts.forecast_response import ReadyForecast
from r1_forecasting.published.publication import InferenceName, parse_publication
from r1_forecasting.published.published_value import PublishedValue
from r1_forecasting.published.publisher import Publisher
from r1_forecasting.series.series import Series, from_samples
from r1_forecasting.service.service import ForecastService
from r1_forecasting.training.trainer import Trainer
from r1_forecasting.training.training_queue import TrainingQueue
from r1_forecasting.unavailable import ForecastUnavailable, UnavailableReason


class Ramp:
    """20 in the second half of each minute, 2 in the first; or a short history, or none."""

    def __init__(self) -> None:
        self.queries: list[str] = []
        self.seconds = 10_000.0
        self.ripple = 0.0

    def read(
        self, query: str, step: float, since: float, until: float
    ) -> Series | ForecastUnavailable:
        self.queries.append(query)
        since = max(since, until - self.seconds)
        at = np.arange(np.ceil(since / step), np.floor(until / step) + 1) * step
        values = np.where(at % 60 < 30, 2.0, 20.0) * (1 + self.ripple * np.sin(at * 1.7))
        return from_samples(list(zip(at.tolist(), values.tolist(), strict=True)), step, until=until)


ORDERS: dict[str, Any] = {
    "namespace": "shop",
    "name": "orders",
    "query": "orders",
    "stepSeconds": 1,
    "seasonSeconds": 60,
    "historySeconds": 480,
    "leadSeconds": 50,
}


@pytest.fixture
def ramp() -> Ramp:
    return Ramp()


@pytest.fixture
async def service(ramp: Ramp) -> AsyncIterator[ForecastService]:
    made = ForecastService(ramp, Trainer((), TrainingQueue(0.25)))
    yield made
    for series_name in made.forecasters.values():
        await series_name.close()


async def test_published_value_is_the_peak_ahead(service: ForecastService) -> None:
    shown = await Publisher(service, timeout_seconds=60).value_of(parse_publication(ORDERS))
    assert isinstance(shown, PublishedValue), shown
    # A lead of 50 s of a minute reaches into the busy half from wherever this test runs.
    assert shown.value == pytest.approx(20, rel=0.1)
    assert shown.reason in ("BeatsBaselines", "BeatsLastValue")
    assert list(service.forecasters) == ["published/shop/orders"]


async def test_inference_value_uses_the_operators_request(
    service: ForecastService, ramp: Ramp
) -> None:
    publisher = Publisher(service, timeout_seconds=60)
    name = InferenceName("team-a", "production-r1")
    unknown = await publisher.value_of(name)
    assert isinstance(unknown, ForecastUnavailable)
    assert "team-a/production-r1" in unknown.message
    assert ramp.queries == [], "nobody but the operator starts a forecast of an R1Inference"

    body = {key: ORDERS[key] for key in ORDERS if key not in ("namespace", "name")}
    request = parse_forecast_request(body | {"series": "team-a/production-r1"})
    answer = await service.operator_forecast(request, 60)
    shown = await publisher.value_of(name)
    assert isinstance(shown, PublishedValue), shown
    assert isinstance(answer, ReadyForecast)
    assert shown.value >= answer.last_observed.value
    assert shown.observed_at >= answer.last_observed.at


async def test_a_young_service_is_scaled_on_what_is_observed(
    service: ForecastService, ramp: Ramp
) -> None:
    ramp.seconds = 20
    shown = await Publisher(service, timeout_seconds=60).value_of(parse_publication(ORDERS))
    assert isinstance(shown, PublishedValue), shown
    assert shown.reason == "TooLittleHistory"
    assert shown.value in (2.0, 20.0)


async def test_no_observation_is_no_number(service: ForecastService, ramp: Ramp) -> None:
    ramp.seconds = -10
    shown = await Publisher(service, timeout_seconds=60).value_of(parse_publication(ORDERS))
    assert isinstance(shown, ForecastUnavailable)
    assert shown.reason is UnavailableReason.NO_DATA


def operators(**changes: Any) -> ForecastRequest:
    """The operator's request for team-a/production-r1."""
    body = {key: ORDERS[key] for key in ORDERS if key not in ("namespace", "name")}
    return parse_forecast_request(body | {"series": "team-a/production-r1"} | changes)


async def test_activation_of_the_resource_applies_to_the_published_value(
    service: ForecastService, ramp: Ramp
) -> None:
    ramp.ripple = 0.2
    publisher = Publisher(service, timeout_seconds=60)
    name = InferenceName("team-a", "production-r1")
    await service.operator_forecast(operators(activation="Advisory"), 60)
    advised = await publisher.value_of(name)
    assert isinstance(advised, PublishedValue), advised
    assert advised.reason == "Advisory"
    for place, level in ((0, 0.5), (2, 0.99)):
        changed = operators(activation="Always", levels=[0.5, 0.9, 0.99], decisionLevel=level)
        await service.operator_forecast(changed, 60)
        shown = await publisher.value_of(name)
        assert isinstance(shown, PublishedValue), shown
        assert shown.reason == "Always"
        made = service.forecasters["team-a/production-r1"].forecast
        assert made is not None
        assert made.peak_over_lead[0] < made.peak_over_lead[2]
        assert shown.value == max(made.peak_over_lead[place], made.last_observed)


async def test_operator_request_expires_after_its_timeout(ramp: Ramp) -> None:
    now = 0.0
    service = ForecastService(
        ramp, Trainer((), TrainingQueue(0.25)), clock=lambda: now, timeout_seconds=60
    )
    publisher = Publisher(service, timeout_seconds=60)
    name = InferenceName("team-a", "production-r1")
    await service.operator_forecast(operators(), 60)
    for at in (500.0, 599.0):  # being shown keeps nothing alive
        now = at
        assert isinstance(await publisher.value_of(name), PublishedValue)
    now = 601.0
    shown = await publisher.value_of(name)
    assert isinstance(shown, ForecastUnavailable)
    assert "not Never" in shown.message


async def test_class_value_comes_from_its_own_series(service: ForecastService, ramp: Ramp) -> None:
    publisher = Publisher(service, timeout_seconds=60)
    await service.operator_forecast(operators(classQueries={"Q1": "urgent", "Q3": "batch"}), 60)
    shown = await publisher.value_of(InferenceName("team-a", "production-r1", "Q1"))
    assert isinstance(shown, PublishedValue), shown
    assert ramp.queries[-1] == "urgent"
    assert "team-a/production-r1/Q1" in service.forecasters
    none = await publisher.value_of(InferenceName("team-a", "production-r1", "Q2"))
    assert isinstance(none, ForecastUnavailable)
    assert "no forecast of class Q2; classes with a forecast: Q1, Q3" in none.message

"""Values of published forecasts, computed from the forecaster's responses."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from r1_common.contracts.forecast_request import ActivationRule, ForecastRequest
from r1_common.contracts.forecast_response import ForecastResponse
from r1_forecasting.published.publication import InferenceName, Publication
from r1_forecasting.published.published_value import PublishedValue, published_value
from r1_forecasting.unavailable import ForecastUnavailable, UnavailableReason

TIMEOUT_SECONDS = 4.0
"""Timeout of a first forecast (s); the API server gives an HPA's request longer."""


class ForecastSource(Protocol):
    """The forecaster's interface for published forecasts."""

    async def forecast(
        self, request: ForecastRequest, timeout_seconds: float
    ) -> ForecastResponse: ...

    async def operator_request(self, name: str) -> ForecastRequest | ForecastUnavailable | None: ...


@dataclass(frozen=True, slots=True)
class Publisher:
    """Values of published forecasts, from the same series as the operator's forecasts."""

    source: ForecastSource
    timeout_seconds: float = TIMEOUT_SECONDS

    async def value_of(
        self, wanted: Publication | InferenceName
    ) -> PublishedValue | ForecastUnavailable:
        """Return the current value, or why there is none."""
        if isinstance(wanted, Publication):
            return await self._value(wanted.request, wanted.activation)
        # The operator's own request hits the cached response.
        request = await self.source.operator_request(wanted.series_name)
        if isinstance(request, ForecastUnavailable):
            return request
        if request is None:
            return ForecastUnavailable(
                UnavailableReason.NO_DATA,
                f"the operator requests no forecast of an R1Inference {wanted.series_name}: check "
                "the name, and that spec.autoscaling.forecast.activation is not Never",
            )
        if wanted.priority_class is None:
            return await self._value(request, request.activation)
        class_query = dict(request.class_queries).get(wanted.priority_class)
        if class_query is None:
            there = ", ".join(name for name, _ in request.class_queries) or "none"
            return ForecastUnavailable(
                UnavailableReason.NO_DATA,
                f"{wanted.series_name} has no forecast of class {wanted.priority_class}; "
                f"classes with a forecast: {there}",
            )
        series_name = f"{wanted.series_name}/{wanted.priority_class}"
        class_request = replace(
            request, series_name=series_name, query=class_query, class_queries=()
        )
        return await self._value(class_request, request.activation)

    async def _value(
        self, request: ForecastRequest, activation: ActivationRule
    ) -> PublishedValue | ForecastUnavailable:
        answer = await self.source.forecast(request, self.timeout_seconds)
        return published_value(answer, request.decision_level, activation)

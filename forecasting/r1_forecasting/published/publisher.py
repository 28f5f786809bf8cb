"""Between the doors and the forecaster: what is wanted goes in, the number to show comes out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

from r1_forecasting.published.publication import InferenceName, Publication
from r1_forecasting.published.published_value import PublishedValue, published_value
from r1_forecasting.request import ActivationRule, ForecastRequest
from r1_forecasting.unavailable import ForecastUnavailable, UnavailableReason

TIMEOUT_SECONDS = 4.0
"""Seconds a caller waits for a first answer; the API server gives an HPA's question longer."""


class ForecastSource(Protocol):
    """The forecaster, as far as publishing needs it."""

    async def forecast(
        self, request: ForecastRequest, timeout_seconds: float
    ) -> dict[str, Any]: ...

    async def operator_request(self, name: str) -> ForecastRequest | ForecastUnavailable | None: ...


@dataclass(frozen=True, slots=True)
class Publisher:
    """Values of what is published, from the same subjects that answer the operator."""

    source: ForecastSource
    timeout_seconds: float = TIMEOUT_SECONDS

    async def value_of(
        self, wanted: Publication | InferenceName
    ) -> PublishedValue | ForecastUnavailable:
        """The number to show now, or why there is none."""
        if isinstance(wanted, Publication):
            return await self._value(wanted.request, wanted.activation)
        # Asked with the operator's own question, the answer is the one it made already.
        request = await self.source.operator_request(wanted.series_name)
        if isinstance(request, ForecastUnavailable):
            return request
        if request is None:
            return ForecastUnavailable(
                UnavailableReason.NO_DATA,
                f"the operator asks for no forecast of an R1Inference {wanted.series_name}: check "
                "the name and that its spec.autoscaling.forecast is not Never",
            )
        if wanted.priority_class is None:
            return await self._value(request, request.activation)
        class_query = dict(request.class_queries).get(wanted.priority_class)
        if class_query is None:
            there = ", ".join(name for name, _ in request.class_queries) or "none"
            return ForecastUnavailable(
                UnavailableReason.NO_DATA,
                f"{wanted.series_name} has no forecast of the class {wanted.priority_class}; "
                f"there are {there}",
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

"""A published forecast: its name, its series, its lead time and its activation rule.

The fields are those of ``POST /v1/forecast``, plus ``namespace`` and ``name`` (the metric that an
autoscaler requests), and ``quantilePercent`` and ``activation`` as in an R1Inference.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from r1_common.contracts.forecast_request import (
    MAX_HISTORY_STEPS,
    ActivationRule,
    ForecastRequest,
    InvalidForecastRequest,
    parse_activation,
    parse_forecast_request,
)

INFERENCE_METRIC = "r1-forecast"
"""Metric of the R1Inferences' forecasts; reserved, so no published forecast may use it."""
SEASONS_OF_HISTORY = 14
NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
REQUEST_FIELDS = (
    "query",
    "stepSeconds",
    "seasonSeconds",
    "historySeconds",
    "leadSeconds",
    "weekly",
)
FORECAST_FIELDS = frozenset({*REQUEST_FIELDS, "quantilePercent", "activation"})
FIELDS = FORECAST_FIELDS | {"namespace", "name"}


@dataclass(frozen=True, slots=True)
class InferenceName:
    """An R1Inference whose forecast the operator requests, or one priority class of it."""

    namespace: str
    name: str
    priority_class: str | None = None

    @property
    def series_name(self) -> str:
        """The series that the operator requests."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Publication:
    """One published forecast."""

    namespace: str
    name: str
    request: ForecastRequest
    activation: ActivationRule


def parse_publication(body: object, series_name: str | None = None) -> Publication:
    """Parse one entry of the published list; ``series_name`` defaults to its namespace and name.

    Raises ``InvalidRequest``, whose message begins with the field and says what it needs.
    """
    if not isinstance(body, Mapping):
        raise InvalidForecastRequest(
            "needs to be an object with namespace, name, query and leadSeconds"
        )
    unknown = sorted(str(key) for key in body.keys() - FIELDS)
    if unknown:
        raise InvalidForecastRequest(
            f"{unknown[0]}: unknown field; known are {', '.join(sorted(FIELDS))}"
        )
    namespace, name = _name(body, "namespace"), _name(body, "name")
    if name == INFERENCE_METRIC:
        raise InvalidForecastRequest(
            f"name: {INFERENCE_METRIC} is reserved for R1Inferences; choose another name"
        )
    request = parse_forecast_request(
        _request_body(body, series_name or f"published/{namespace}/{name}")
    )
    return Publication(namespace, name, request, parse_activation(body))


def _request_body(body: Mapping[str, object], series_name: str) -> dict[str, object]:
    """The body of ``POST /v1/forecast``; defaults: steps of a minute, a season of a day."""
    if "leadSeconds" not in body:
        raise InvalidForecastRequest(
            "leadSeconds: is missing; set the seconds from the request of a replica to its readiness"
        )
    fields: dict[str, object] = {"stepSeconds": 60, "seasonSeconds": 86_400}
    fields |= {field: body[field] for field in REQUEST_FIELDS if field in body}
    if "historySeconds" not in fields:
        fields["historySeconds"] = _history(fields["stepSeconds"], fields["seasonSeconds"])
    level = _level(body)
    return fields | {"series": series_name, "levels": [level], "decisionLevel": level}


def _history(step: object, season: object) -> float:
    """Fourteen seasons, at most the steps that a request may have.

    A value that is no number is refused by the request's own check of the field.
    """
    if isinstance(step, int | float) and isinstance(season, int | float):
        return min(SEASONS_OF_HISTORY * season, MAX_HISTORY_STEPS * step)
    return 1.0


def _level(body: Mapping[str, object]) -> float:
    percent = body.get("quantilePercent", 90)
    if isinstance(percent, bool) or not isinstance(percent, int | float):
        raise InvalidForecastRequest(
            f"quantilePercent: {percent!r} needs to be a number such as 90"
        )
    if not 1 <= percent <= 99.9:
        raise InvalidForecastRequest(f"quantilePercent: {percent:g} needs to lie from 1 to 99.9")
    return round(percent / 100, 6)


def _name(body: Mapping[str, object], field: str) -> str:
    value = body.get(field)
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise InvalidForecastRequest(
            f"{field}: {value!r} needs to be a Kubernetes name: lower-case letters, digits, - and ."
        )
    return value

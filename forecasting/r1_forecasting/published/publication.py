"""A published forecast as a value: whose, of which series, how far ahead, and when it may act.

The fields are those of ``POST /v1/forecast`` with three of their own: ``namespace`` and
``name`` (under which an autoscaler finds it) and ``quantilePercent`` and ``activation`` as an
R1Inference has them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from r1_forecasting.request import (
    MAX_HISTORY_STEPS,
    ActivationRule,
    ForecastRequest,
    InvalidRequest,
    parse_activation,
    parse_request,
)

INFERENCE_METRIC = "r1-forecast"
"""The metric under which forecasts of R1Inferences are found; no publication may take it."""
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
    """An R1Inference whose forecast the operator keeps asking for, or one class's share of it."""

    namespace: str
    name: str
    priority_class: str | None = None

    @property
    def series_name(self) -> str:
        """The name under which the operator asks."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Publication:
    """One forecast that anybody may scale on."""

    namespace: str
    name: str
    request: ForecastRequest
    activation: ActivationRule


def parse_publication(body: object, series_name: str | None = None) -> Publication:
    """Parse one entry of the published list; ``subject`` defaults to one of its name.

    Raises ``InvalidRequest``, whose message begins with the field and says what it needs.
    """
    if not isinstance(body, Mapping):
        raise InvalidRequest("needs to be an object with namespace, name, query and leadSeconds")
    unknown = sorted(str(key) for key in body.keys() - FIELDS)
    if unknown:
        raise InvalidRequest(f"{unknown[0]}: unknown field; known are {', '.join(sorted(FIELDS))}")
    namespace, name = _name(body, "namespace"), _name(body, "name")
    if name == INFERENCE_METRIC:
        raise InvalidRequest(f"name: {INFERENCE_METRIC} is kept for R1Inferences; take another")
    request = parse_request(_question(body, series_name or f"published/{namespace}/{name}"))
    return Publication(namespace, name, request, parse_activation(body))


def _question(body: Mapping[str, object], series_name: str) -> dict[str, object]:
    """The body of ``POST /v1/forecast``, with the defaults of a day in minutes."""
    if "leadSeconds" not in body:
        raise InvalidRequest(
            "leadSeconds: is missing; give the seconds from asking for a replica until it serves"
        )
    asked: dict[str, object] = {"stepSeconds": 60, "seasonSeconds": 86_400}
    asked |= {field: body[field] for field in REQUEST_FIELDS if field in body}
    if "historySeconds" not in asked:
        asked["historySeconds"] = _history(asked["stepSeconds"], asked["seasonSeconds"])
    level = _level(body)
    return asked | {"series": series_name, "levels": [level], "decisionLevel": level}


def _history(step: object, season: object) -> float:
    """Fourteen seasons, or as many steps as a request may have; what is no number is refused
    by the request's own check of that field."""
    if isinstance(step, int | float) and isinstance(season, int | float):
        return min(SEASONS_OF_HISTORY * season, MAX_HISTORY_STEPS * step)
    return 1.0


def _level(body: Mapping[str, object]) -> float:
    percent = body.get("quantilePercent", 90)
    if isinstance(percent, bool) or not isinstance(percent, int | float):
        raise InvalidRequest(f"quantilePercent: {percent!r} needs to be a number such as 90")
    if not 1 <= percent <= 99.9:
        raise InvalidRequest(f"quantilePercent: {percent:g} needs to lie from 1 to 99.9")
    return round(percent / 100, 6)


def _name(body: Mapping[str, object], field: str) -> str:
    value = body.get(field)
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise InvalidRequest(
            f"{field}: {value!r} needs to be a Kubernetes name: lower-case letters, digits, - and ."
        )
    return value

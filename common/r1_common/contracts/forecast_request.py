"""The body of ``POST /v1/forecast``: written by the operator and by other shards, read by the forecaster.

Parsing is the only validation. Unknown fields are ignored, for an operator of a later release.

No length is fixed to minutes or days: a season of 60 s in steps of 1 s is as valid as a day in
steps of 60 s.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

MAX_HISTORY_STEPS = 60_000
MAX_POINTS = 96
CLASS = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
"""A priority class: the syntax of a Kubernetes label value."""


class ActivationRule(StrEnum):
    """When a forecast may raise the value that an autoscaler reads (as in an R1Inference)."""

    REQUIRE_BACKTEST = "RequireBacktest"
    ALWAYS = "Always"
    ADVISORY = "Advisory"


class InvalidForecastRequest(ValueError):
    """The request is invalid; the message names the field and the fix."""


@dataclass(frozen=True, slots=True)
class ForecastRequest:
    """The request for one series. Lengths are in seconds; ``levels`` ascend.

    ``activation`` and ``class_queries`` (a class and the query of its share) do not change the
    forecast: they configure the published values of the series.
    """

    series_name: str
    query: str
    step: float
    season: float
    history: float
    lead: float
    horizon: float
    levels: tuple[float, ...]
    decision_level: float
    weekly: bool = False
    activation: ActivationRule = ActivationRule.REQUIRE_BACKTEST
    class_queries: tuple[tuple[str, str], ...] = ()

    @property
    def history_steps(self) -> int:
        """Length of the history in steps."""
        return math.ceil(self.history / self.step)

    @property
    def source(self) -> tuple[str, float, float]:
        """Query, step and season: a change of any of them makes another series."""
        return (self.query, self.step, self.season)


def parse_forecast_request(body: object) -> ForecastRequest:
    """Parse the JSON body of ``POST /v1/forecast``; raises ``InvalidRequest``."""
    if not isinstance(body, Mapping):
        raise InvalidForecastRequest("the body needs to be a JSON object")
    # Prometheus counts in milliseconds; with a finer step the grids would drift apart.
    step = round(_seconds(body, "stepSeconds", least=0.1), 3)
    season = _seconds(body, "seasonSeconds", least=4 * step)
    lead = _seconds(body, "leadSeconds", least=0.0)
    horizon = _seconds(body, "horizonSeconds", least=0.0, default=max(lead, step))
    history = _seconds(body, "historySeconds", least=step)
    if history / step > MAX_HISTORY_STEPS:
        raise InvalidForecastRequest(
            f"historySeconds: is {history / step:.0f} steps of stepSeconds, at most "
            f"{MAX_HISTORY_STEPS}: shorten the history or lengthen the step"
        )
    for name, value in (("leadSeconds", lead), ("horizonSeconds", horizon)):
        if value > history:
            raise InvalidForecastRequest(
                f"{name}: {value:g} is longer than historySeconds {history:g}"
            )
    levels = _levels(body)
    decision = body.get("decisionLevel", 0.9 if 0.9 in levels else levels[-1])
    if isinstance(decision, bool) or decision not in levels:
        raise InvalidForecastRequest("decisionLevel: needs to be one of levels")
    weekly = body.get("weekly", False)
    if not isinstance(weekly, bool):
        raise InvalidForecastRequest("weekly: needs to be true or false")
    return ForecastRequest(
        series_name=_text(body, "series", 512),
        query=_text(body, "query", 16_384),
        step=step,
        season=season,
        history=history,
        lead=lead,
        horizon=horizon,
        levels=levels,
        decision_level=float(decision),
        weekly=weekly,
        activation=parse_activation(body),
        class_queries=_class_queries(body),
    )


def request_document(request: ForecastRequest) -> dict[str, object]:
    """The JSON body that ``parse_request`` parses into an equal request."""
    return {
        "series": request.series_name,
        "query": request.query,
        "stepSeconds": request.step,
        "seasonSeconds": request.season,
        "historySeconds": request.history,
        "leadSeconds": request.lead,
        "horizonSeconds": request.horizon,
        "levels": list(request.levels),
        "decisionLevel": request.decision_level,
        "weekly": request.weekly,
        "activation": str(request.activation),
        "classQueries": dict(request.class_queries),
    }


def parse_activation(body: Mapping[str, object]) -> ActivationRule:
    """Parse the field ``activation``; raises ``InvalidRequest``."""
    value = body.get("activation", ActivationRule.REQUIRE_BACKTEST)
    try:
        return ActivationRule(str(value))
    except ValueError:
        known = ", ".join(ActivationRule)
        raise InvalidForecastRequest(f"activation: {value!r} needs to be one of {known}") from None


def _class_queries(body: Mapping[str, object]) -> tuple[tuple[str, str], ...]:
    value = body.get("classQueries", {})
    if not isinstance(value, Mapping) or len(value) > 16:
        raise InvalidForecastRequest(
            "classQueries: needs to be an object of at most 16 queries by class"
        )
    found = {}
    for name, query in value.items():
        if not isinstance(name, str) or not CLASS.fullmatch(name):
            raise InvalidForecastRequest(f"classQueries: {name!r} needs to be a class such as Q1")
        if not isinstance(query, str) or not query.strip() or len(query) > 16_384:
            raise InvalidForecastRequest(
                f"classQueries: {name} needs to be a query that is not empty"
            )
        found[name] = query
    return tuple(sorted(found.items()))


def _text(body: Mapping[str, object], name: str, longest: int) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value.strip():
        raise InvalidForecastRequest(f"{name}: needs to be a string that is not empty")
    if len(value) > longest:
        raise InvalidForecastRequest(f"{name}: {len(value)} characters, at most {longest}")
    try:
        value.encode()
    except UnicodeEncodeError:
        # JSON can hold an unpaired surrogate, which cannot be encoded as UTF-8.
        raise InvalidForecastRequest(
            f"{name}: holds an unpaired surrogate; send valid UTF-8"
        ) from None
    return value


def _seconds(
    body: Mapping[str, object], name: str, *, least: float, default: float | None = None
) -> float:
    value = body.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidForecastRequest(f"{name}: needs to be a number of seconds")
    if not least <= value <= 1e9:  # excludes NaN and integers beyond a float
        raise InvalidForecastRequest(
            f"{name}: {str(value)[:40]} seconds, needs to be from {least:g} to 1e9"
        )
    return float(value)


def _levels(body: Mapping[str, object]) -> tuple[float, ...]:
    value = body.get("levels", [0.5, 0.9, 0.95])
    if not isinstance(value, list) or not 1 <= len(value) <= 16:
        raise InvalidForecastRequest("levels: needs to be a list of 1 to 16 numbers")
    for level in value:
        if isinstance(level, bool) or not isinstance(level, int | float):
            raise InvalidForecastRequest(f"levels: {level!r} is not a number")
        if not 0.01 <= level <= 0.999:
            raise InvalidForecastRequest(f"levels: {level} needs to lie from 0.01 to 0.999")
    return tuple(sorted({float(level) for level in value}))

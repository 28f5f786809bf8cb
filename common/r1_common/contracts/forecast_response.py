"""The response of ``POST /v1/forecast``, written by the forecaster.

The operator, other shards and the published forecasts read it. A request without a forecast has a
response as well: `NoForecast` with a reason. Times are unix seconds of the forecaster's clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from r1_common.contracts.json_object import JsonObject

READY, UNAVAILABLE = "Ready", "Unavailable"

Quantiles = Mapping[float, float]
"""Values by level (0 to 1), in the unit of the query."""


class InvalidForecast(ValueError):
    """A response that does not parse; the message names the field and what it must be."""


@dataclass(frozen=True, slots=True)
class Observation:
    """A value of the series at one time."""

    at: float
    value: float


@dataclass(frozen=True, slots=True)
class QuantilesAt:
    """Quantiles of demand at one time."""

    at: float
    quantiles: Quantiles


@dataclass(frozen=True, slots=True)
class GateState:
    """Whether the model's rolling backtest allows it to act, with the reason.

    ``scores``: decision cost of each model, relative to the last value's.
    """

    open: bool
    reason: str
    message: str
    scores: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class LevelCoverage:
    """Share of outcomes at or below a quantile.

    ``live`` is None before the first of ``samples`` announced windows has ended; ``backtest`` is the
    share in the backtest, None where it has no value.
    """

    live: float | None
    samples: int
    backtest: float | None = None


@dataclass(frozen=True, slots=True)
class ReadyForecast:
    """A forecast. ``peak_over_lead``: quantiles of the maximum over the request's lead time.

    ``age_seconds``: age of the response when it was sent; None from a release without it.
    """

    series_name: str
    reason: str
    message: str
    issued_at: float
    valid_until: float
    model: str
    gate: GateState
    points: tuple[QuantilesAt, ...]
    peak_over_lead: Quantiles
    coverage: Mapping[float, LevelCoverage]
    last_observed: Observation
    age_seconds: float | None = None

    @property
    def state(self) -> str:
        """The field ``state``."""
        return READY


@dataclass(frozen=True, slots=True)
class NoForecast:
    """The reason why there is no forecast, and the newest observation, if any."""

    series_name: str
    reason: str
    message: str
    last_observed: Observation | None = None

    @property
    def state(self) -> str:
        """The field ``state``."""
        return UNAVAILABLE


ForecastResponse = ReadyForecast | NoForecast


def shown_level(level: float) -> float:
    """The level as the document writes it: six significant digits."""
    return float(f"{level:g}")


def parse_forecast_response(document: object) -> ForecastResponse:
    """Read the response.

    Raises:
        InvalidForecast: a field is missing or wrong.
    """
    root = JsonObject.root(document, "the response", InvalidForecast)
    state = root.text("state")
    if state == UNAVAILABLE:
        return NoForecast(
            series_name=root.text("series"),
            reason=root.text("reason"),
            message=root.text("message"),
            last_observed=_observation(root) if root.has("lastObserved") else None,
        )
    if state != READY:
        raise root.wrong("state", f"must be {READY} or {UNAVAILABLE}")
    gate = root.child("gate")
    return ReadyForecast(
        series_name=root.text("series"),
        reason=root.text("reason"),
        message=root.text("message"),
        issued_at=root.number("issuedAt"),
        valid_until=root.number("validUntil"),
        model=root.text("model"),
        gate=GateState(
            gate.flag("open"),
            gate.text("reason"),
            gate.text("message"),
            gate.numbers_by_key("scores"),
        ),
        points=tuple(
            QuantilesAt(point.number("at"), _quantiles(point, "quantiles"))
            for point in root.children("points")
        ),
        peak_over_lead=_quantiles(root, "peakOverLead"),
        coverage=_coverage(root.child("coverage")),
        last_observed=_observation(root),
        age_seconds=root.optional_number("ageSeconds"),
    )


def forecast_document(response: ForecastResponse) -> dict[str, Any]:
    """The JSON body of a response."""
    document: dict[str, Any] = {
        "series": response.series_name,
        "state": response.state,
        "reason": response.reason,
        "message": response.message,
    }
    if response.last_observed is not None:
        last = response.last_observed
        document["lastObserved"] = {"at": last.at, "value": last.value}
    if isinstance(response, NoForecast):
        return document
    gate = response.gate
    document |= {
        "issuedAt": response.issued_at,
        "validUntil": response.valid_until,
        "model": response.model,
        "gate": {
            "open": gate.open,
            "reason": gate.reason,
            "message": gate.message,
            "scores": dict(gate.scores),
        },
        "points": [
            {"at": point.at, "quantiles": _by_text(point.quantiles)} for point in response.points
        ],
        "peakOverLead": _by_text(response.peak_over_lead),
        "coverage": {
            f"{level:g}": {"live": one.live, "samples": one.samples, "backtest": one.backtest}
            for level, one in response.coverage.items()
        },
    }
    if response.age_seconds is not None:
        document["ageSeconds"] = response.age_seconds
    return document


def _by_text(quantiles: Quantiles) -> dict[str, float]:
    return {f"{level:g}": value for level, value in quantiles.items()}


def _observation(root: JsonObject) -> Observation:
    last = root.child("lastObserved")
    return Observation(last.number("at"), last.number("value"))


def _quantiles(parent: JsonObject, name: str) -> dict[float, float]:
    by_text = parent.numbers_by_key(name)
    return {_level(parent.child(name), text): value for text, value in by_text.items()}


def _coverage(by_text: JsonObject) -> dict[float, LevelCoverage]:
    by_level: dict[float, LevelCoverage] = {}
    for text in by_text.fields:
        entry = by_text.child(text)
        by_level[_level(by_text, text)] = LevelCoverage(
            live=entry.optional_number("live", 0),
            samples=int(entry.number("samples", 0)),
            backtest=entry.optional_number("backtest", 0),
        )
    return by_level


def _level(parent: JsonObject, text: str) -> float:
    try:
        level = float(text)
    except ValueError:
        level = -1.0
    if not 0 <= level <= 1:
        raise parent.wrong(text[:40], "must be a level from 0 to 1")
    return level

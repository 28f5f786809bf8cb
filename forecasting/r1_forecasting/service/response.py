"""Responses of ``POST /v1/forecast`` from a forecast or from the cause of its absence."""

from __future__ import annotations

import math

from r1_common.contracts.forecast_request import ForecastRequest
from r1_common.contracts.forecast_response import (
    GateState,
    LevelCoverage,
    NoForecast,
    Observation,
    Quantiles,
    QuantilesAt,
    ReadyForecast,
    shown_level,
)
from r1_forecasting.calibration.coverage import CoverageTracker
from r1_forecasting.forecast import Forecast
from r1_forecasting.selection.backtest import ModelScorecard
from r1_forecasting.series.shape import shape_of
from r1_forecasting.unavailable import ForecastUnavailable


def cache_key(request: ForecastRequest) -> tuple[object, ...]:
    """Cache key of a response; a lead that changes within its step keeps the key."""
    return (
        request.source,
        request.history_steps,
        shape_of(request),
        request.levels,
        request.decision_level,
    )


def unavailable(
    series_name: str, why: ForecastUnavailable, last: tuple[float, float] | None = None
) -> NoForecast:
    """A response without a forecast; ``last`` is the newest observation, if any."""
    observation = None if last is None else Observation(*last)
    return NoForecast(series_name, str(why.reason), why.message, observation)


def ready(
    series_name: str,
    forecast: Forecast,
    scorecard: ModelScorecard,
    coverage_tracker: CoverageTracker,
) -> ReadyForecast:
    """A response with a forecast; ``live`` of its coverage is None before the first outcome."""
    tested = scorecard.coverage[forecast.model]
    coverage = {}
    for level in forecast.levels:
        live, samples = coverage_tracker.live(level)
        backtested = tested[level]
        coverage[shown_level(level)] = LevelCoverage(
            live, samples, None if math.isnan(backtested) else backtested
        )
    gate = forecast.gate
    return ReadyForecast(
        series_name=series_name,
        reason=str(gate.reason),
        message=gate.message,
        issued_at=forecast.issued_at,
        valid_until=forecast.valid_until,
        model=forecast.model,
        gate=GateState(
            gate.open,
            str(gate.reason),
            gate.message,
            {name: round(value, 4) for name, value in gate.scores.items()},
        ),
        points=tuple(
            QuantilesAt(point.at, _quantiles(forecast.levels, point.quantiles))
            for point in forecast.points
        ),
        peak_over_lead=_quantiles(forecast.levels, forecast.peak_over_lead),
        coverage=coverage,
        last_observed=Observation(forecast.last_observed_at, forecast.last_observed),
    )


def _quantiles(levels: tuple[float, ...], values: tuple[float, ...]) -> Quantiles:
    return {shown_level(level): value for level, value in zip(levels, values, strict=True)}

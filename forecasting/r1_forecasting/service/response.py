"""Response bodies of ``POST /v1/forecast``."""

from __future__ import annotations

import math
from typing import Any

from r1_forecasting.calibration.coverage import CoverageTracker
from r1_forecasting.forecast import Forecast
from r1_forecasting.selection.backtest import ModelScorecard
from r1_forecasting.unavailable import ForecastUnavailable


def unavailable(
    series_name: str, why: ForecastUnavailable, last: tuple[float, float] | None = None
) -> dict[str, Any]:
    """Body of a response without a forecast; ``last`` is the newest observation, if any."""
    body: dict[str, Any] = {
        "series": series_name,
        "state": "Unavailable",
        "reason": str(why.reason),
        "message": why.message,
    }
    return body if last is None else body | {"lastObserved": {"at": last[0], "value": last[1]}}


def ready(
    series_name: str,
    forecast: Forecast,
    scorecard: ModelScorecard,
    coverage_tracker: CoverageTracker,
) -> dict[str, Any]:
    """Body of a response with a forecast; ``live`` is null before the first outcome."""
    tested = scorecard.coverage[forecast.model]
    coverage = {}
    for level in forecast.levels:
        live, samples = coverage_tracker.live(level)
        backtested = tested[level]
        coverage[f"{level:g}"] = {
            "live": live,
            "samples": samples,
            "backtest": None if math.isnan(backtested) else backtested,
        }
    gate = forecast.gate
    return {
        "series": series_name,
        "state": "Ready",
        "reason": str(gate.reason),
        "message": gate.message,
        "issuedAt": forecast.issued_at,
        "validUntil": forecast.valid_until,
        "model": forecast.model,
        "gate": {
            "open": gate.open,
            "reason": str(gate.reason),
            "message": gate.message,
            "scores": {name: round(value, 4) for name, value in gate.scores.items()},
        },
        "points": [
            {"at": point.at, "quantiles": _named(forecast.levels, point.quantiles)}
            for point in forecast.points
        ],
        "peakOverLead": _named(forecast.levels, forecast.peak_over_lead),
        "coverage": coverage,
        "lastObserved": {"at": forecast.last_observed_at, "value": forecast.last_observed},
    }


def _named(levels: tuple[float, ...], values: tuple[float, ...]) -> dict[str, float]:
    return {f"{level:g}": value for level, value in zip(levels, values, strict=True)}

"""The answers of ``POST /v1/forecast`` as JSON objects: the contract, and nothing else."""

from __future__ import annotations

import math
from typing import Any

from r1_forecasting.calibration.coverage import CoverageLedger
from r1_forecasting.forecast import Forecast
from r1_forecasting.protocol import ForecastUnavailable
from r1_forecasting.selection.backtest import ModelScorecard


def unavailable(
    subject: str, why: ForecastUnavailable, last: tuple[float, float] | None = None
) -> dict[str, Any]:
    """The answer where there is no forecast; ``last`` is the newest observation, if any."""
    said: dict[str, Any] = {
        "subject": subject,
        "state": "Unavailable",
        "reason": str(why.reason),
        "message": why.message,
    }
    return said if last is None else said | {"lastObserved": {"at": last[0], "value": last[1]}}


def ready(
    subject: str, made: Forecast, standing: ModelScorecard, ledger: CoverageLedger
) -> dict[str, Any]:
    """The answer for a forecast; ``live`` is null until an announced window has passed."""
    tested = standing.coverage[made.model]
    coverage = {}
    for level in made.levels:
        live, samples = ledger.live(level)
        backtested = tested[level]
        coverage[f"{level:g}"] = {
            "live": live,
            "samples": samples,
            "backtest": None if math.isnan(backtested) else backtested,
        }
    gate = made.gate
    return {
        "subject": subject,
        "state": "Ready",
        "reason": str(gate.reason),
        "message": gate.message,
        "issuedAt": made.issued_at,
        "validUntil": made.valid_until,
        "model": made.model,
        "gate": {
            "acts": gate.acts,
            "reason": str(gate.reason),
            "message": gate.message,
            "scores": {name: round(value, 4) for name, value in gate.scores.items()},
        },
        "points": [
            {"at": point.at, "quantiles": _named(made.levels, point.quantiles)}
            for point in made.points
        ],
        "peakOverLead": _named(made.levels, made.peak_over_lead),
        "coverage": coverage,
        "lastObserved": {"at": made.last_observed_at, "value": made.last_observed},
    }


def _named(levels: tuple[float, ...], values: tuple[float, ...]) -> dict[str, float]:
    return {f"{level:g}": value for level, value in zip(levels, values, strict=True)}

"""A forecast as a value, computed from a series, a backtest and a ``now``; pure.

Every timestamp lies after the last observation and after ``now``. Where the gate's model has no
value at this moment, the last value replaces it and the gate reports `ModelUnavailable`. Where the
last value is missing too, the result is `ForecastUnavailable`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from r1_common.contracts.forecast_request import MAX_POINTS, ForecastRequest
from r1_forecasting.calibration import conformal
from r1_forecasting.models.baselines.last_value import MAX_FILL_STEPS
from r1_forecasting.models.protocol import Fitted
from r1_forecasting.selection.backtest import CEILING, ModelScorecard
from r1_forecasting.selection.gate import LAST_VALUE, Gate, GateReason
from r1_forecasting.selection.point_calibration import PointCalibration
from r1_forecasting.series.series import Series
from r1_forecasting.series.shape import shape_of
from r1_forecasting.unavailable import ForecastUnavailable, UnavailableReason

MIN_OBSERVATIONS = 40


@dataclass(frozen=True, slots=True)
class ForecastPoint:
    """Quantiles of demand at one time, in the order of the forecast's levels."""

    at: float
    quantiles: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Forecast:
    """Predicted quantiles, the model that made them, and the state of the gate."""

    issued_at: float
    valid_until: float
    model: str
    gate: Gate
    levels: tuple[float, ...]
    points: tuple[ForecastPoint, ...]
    peak_over_lead: tuple[float, ...]
    peak_steps: int
    last_observed_at: float
    last_observed: float


def check_history(
    series: Series, request: ForecastRequest, now: float
) -> ForecastUnavailable | None:
    """Return why the series has no forecast, None where it can have one."""
    newest = series.last()
    if newest is None:
        return ForecastUnavailable(UnavailableReason.NO_DATA, "the history holds no observation")
    age = (now - newest[0]) / series.step
    if age > MAX_FILL_STEPS + 1:
        return ForecastUnavailable(
            UnavailableReason.NO_DATA,
            f"the last observation is {now - newest[0]:.0f} s old; at most "
            f"{MAX_FILL_STEPS} steps of {series.step:g} s are allowed: check the query's scrape",
        )
    need = max(MIN_OBSERVATIONS, 2 * shape_of(request).lead)
    if series.observed < need:
        return ForecastUnavailable(
            UnavailableReason.TOO_LITTLE_HISTORY,
            f"{series.observed} observations at steps of {series.step:g} s; {need} are needed",
        )
    return None


def issue(
    series: Series,
    fitted: Mapping[str, Fitted],
    scorecard: ModelScorecard,
    gate: Gate,
    points: Mapping[str, PointCalibration],
    request: ForecastRequest,
    now: float,
) -> Forecast | ForecastUnavailable:
    """Return the forecast of the gate's model at ``now``.

    ``points`` holds the calibration of the gate's model and of the last value.
    """
    refused = check_history(series, request, now)
    if refused is not None:
        return refused
    issued = _predict(series, fitted[gate.model], scorecard, points[gate.model], gate, request, now)
    if issued is None and gate.model != LAST_VALUE:
        fallback = replace(
            gate,
            open=False,
            model=LAST_VALUE,
            reason=GateReason.MODEL_UNAVAILABLE,
            message=f"{gate.model} has no value after a gap in the series; the last value replaces it",
        )
        issued = _predict(
            series, fitted[LAST_VALUE], scorecard, points[LAST_VALUE], fallback, request, now
        )
    if issued is None:
        return ForecastUnavailable(
            UnavailableReason.TOO_LITTLE_HISTORY,
            f"fewer than {conformal.MIN_SCORES} past forecasts are scored; that many are needed to "
            "calibrate a forecast",
        )
    return issued


def _predict(
    series: Series,
    model: Fitted,
    scorecard: ModelScorecard,
    calibration: PointCalibration,
    gate: Gate,
    request: ForecastRequest,
    now: float,
) -> Forecast | None:
    """Return the forecast of one model, None where the model or its calibration has a gap."""
    newest = series.last()
    if newest is None:
        return None
    last_at, last_value = newest
    step = series.step
    origin = np.array([series.index(last_at)])
    ceiling = np.array(CEILING * float(np.nanmax(series.values)))
    age = max((now - last_at) / step, 0.0)

    steps = max(scorecard.shape.lead, math.ceil(age + request.lead / step - 1e-9))
    raw = model.peak(series, origin, steps, scorecard.levels)
    peak = conformal.corrected(raw, scorecard.offsets[model.name], scorecard.scale, ceiling)[0]

    # The first grid point that lies after now, and after the last observation.
    first = max(math.floor(age + 1e-9) + 1, 1)
    stride = max(1, -(-scorecard.shape.horizon // MAX_POINTS))
    ahead = np.arange(first, first + scorecard.shape.horizon, stride, dtype=np.int64)
    values = model.predict(series, origin, ahead, scorecard.levels)[0]
    quantiles = conformal.corrected(values, calibration.at(ahead), scorecard.scale, ceiling)
    if np.isnan(peak).any() or np.isnan(quantiles).any():
        return None
    columns = [scorecard.levels.index(level) for level in request.levels]
    times = [last_at + h * step for h in ahead.tolist()]
    return Forecast(
        issued_at=now,
        valid_until=times[0],
        model=model.name,
        gate=gate,
        levels=request.levels,
        points=tuple(
            ForecastPoint(at, tuple(float(row[q]) for q in columns))
            for at, row in zip(times, quantiles, strict=True)
        ),
        peak_over_lead=tuple(float(peak[q]) for q in columns),
        peak_steps=steps,
        last_observed_at=last_at,
        last_observed=last_value,
    )

"""A forecast as a value: put together from a series, a backtest and a ``now``; pure.

Every timestamp lies after both the last observation and ``now``; a model that cannot speak
at this moment gives way to the last value and the gate says so; where not even that has a
present to start from, the result is an ``Unavailable``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from r1_forecasting.calibration import conformal
from r1_forecasting.models.last_value import HELD_STEPS
from r1_forecasting.protocol import (
    Fitted,
    FloatArray,
    ForecastUnavailable,
    IntArray,
    UnavailableReason,
)
from r1_forecasting.selection.backtest import CEILING, BacktestResult, ModelScorecard, point_offsets
from r1_forecasting.selection.gate import LAST_VALUE, Gate, GateReason
from r1_forecasting.series.series import Series
from r1_forecasting.series.windows import knots
from r1_forecasting.service.request import MOST_POINTS, ForecastRequest

FEWEST_OBSERVATIONS = 40


@dataclass(frozen=True, slots=True)
class ForecastPoint:
    """Quantiles of demand at one time, in the order of the forecast's levels."""

    at: float
    quantiles: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is expected, by which model, and whether to act on it."""

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


@dataclass(frozen=True, slots=True, eq=False)
class PointCalibration:
    """Corrections (knots, levels) of the values themselves for one model."""

    model: str
    knots: IntArray
    offsets: FloatArray

    def at(self, horizons: IntArray) -> FloatArray:
        columns = [
            np.interp(np.log(horizons), np.log(self.knots), self.offsets[:, q])
            for q in range(self.offsets.shape[1])
        ]
        return np.stack(columns, axis=1)


def calibrate_points(series: Series, model: Fitted, board: BacktestResult) -> PointCalibration:
    """Point corrections of ``model`` at the knots of the horizon."""
    at = knots(board.shape.horizon + 1)
    offsets = point_offsets(series, model, board, at)
    # A horizon too long to have been scored takes the correction of the longest that was.
    for i in range(1, len(at)):
        if np.isnan(offsets[i]).any():
            offsets[i] = offsets[i - 1]
    return PointCalibration(model.name, at, offsets)


def check_history(
    series: Series, request: ForecastRequest, now: float
) -> ForecastUnavailable | None:
    """Why this series cannot be forecast at all, if it cannot."""
    newest = series.last()
    if newest is None:
        return ForecastUnavailable(UnavailableReason.NO_DATA, "no observation in the history")
    age = (now - newest[0]) / series.step
    if age > HELD_STEPS + 1:
        return ForecastUnavailable(
            UnavailableReason.NO_DATA,
            f"the last observation is {now - newest[0]:.0f} s old, "
            f"more than {HELD_STEPS} steps of {series.step:g} s",
        )
    need = max(FEWEST_OBSERVATIONS, 2 * request.shape.lead)
    if series.observed < need:
        return ForecastUnavailable(
            UnavailableReason.TOO_LITTLE_HISTORY,
            f"{series.observed} observations at steps of {series.step:g} s, needs {need}",
        )
    return None


def issue(
    series: Series,
    fitted: Mapping[str, Fitted],
    standing: ModelScorecard,
    gate: Gate,
    points: Mapping[str, PointCalibration],
    request: ForecastRequest,
    now: float,
) -> Forecast | ForecastUnavailable:
    """The forecast that ``gate``'s model makes at ``now``.

    ``points`` holds the calibration of the gate's model and of the last value.
    """
    refused = check_history(series, request, now)
    if refused is not None:
        return refused
    made = _speak(series, fitted[gate.model], standing, points[gate.model], gate, request, now)
    if made is None and gate.model != LAST_VALUE:
        silent = replace(
            gate,
            acts=False,
            model=LAST_VALUE,
            reason=GateReason.MODEL_SILENT,
            message=f"{gate.model} has nothing to say after a gap; the last value stands in",
        )
        made = _speak(
            series, fitted[LAST_VALUE], standing, points[LAST_VALUE], silent, request, now
        )
    if made is None:
        return ForecastUnavailable(
            UnavailableReason.TOO_LITTLE_HISTORY,
            f"fewer than {conformal.FEWEST} past forecasts could be scored to calibrate one",
        )
    return made


def _speak(
    series: Series,
    model: Fitted,
    standing: ModelScorecard,
    calibration: PointCalibration,
    gate: Gate,
    request: ForecastRequest,
    now: float,
) -> Forecast | None:
    """None where the model or its calibration has a gap."""
    newest = series.last()
    if newest is None:
        return None
    last_at, last_value = newest
    step = series.step
    origin = np.array([series.index(last_at)])
    ceiling = np.array(CEILING * float(np.nanmax(series.values)))
    age = max((now - last_at) / step, 0.0)

    steps = max(standing.shape.lead, math.ceil(age + request.lead / step - 1e-9))
    raw = model.peak(series, origin, steps, standing.levels)
    peak = conformal.corrected(raw, standing.offsets[model.name], standing.scale, ceiling)[0]

    # The first grid point that lies after now, and after the last observation.
    first = max(math.floor(age + 1e-9) + 1, 1)
    stride = max(1, -(-standing.shape.horizon // MOST_POINTS))
    ahead = np.arange(first, first + standing.shape.horizon, stride, dtype=np.int64)
    drawn = model.predict(series, origin, ahead, standing.levels)[0]
    quantiles = conformal.corrected(drawn, calibration.at(ahead), standing.scale, ceiling)
    if np.isnan(peak).any() or np.isnan(quantiles).any():
        return None
    wanted = [standing.levels.index(level) for level in request.levels]
    times = [last_at + h * step for h in ahead.tolist()]
    return Forecast(
        issued_at=now,
        valid_until=times[0],
        model=model.name,
        gate=gate,
        levels=request.levels,
        points=tuple(
            ForecastPoint(at, tuple(float(row[q]) for q in wanted))
            for at, row in zip(times, quantiles, strict=True)
        ),
        peak_over_lead=tuple(float(peak[q]) for q in wanted),
        peak_steps=steps,
        last_observed_at=last_at,
        last_observed=last_value,
    )

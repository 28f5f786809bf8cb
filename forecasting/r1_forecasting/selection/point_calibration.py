"""Corrections of the values along the horizon, as opposed to those of the peak over the lead."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from r1_forecasting.arrays import FloatArray, IntArray
from r1_forecasting.models.protocol import Fitted
from r1_forecasting.selection.backtest import BacktestResult, point_offsets
from r1_forecasting.series.series import Series
from r1_forecasting.series.windows import knots


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


def calibrate_points(series: Series, model: Fitted, result: BacktestResult) -> PointCalibration:
    """Point corrections of ``model`` at the knots of the horizon."""
    at = knots(result.shape.horizon + 1)
    offsets = point_offsets(series, model, result, at)
    # A horizon beyond the scored ones takes the correction of the longest scored horizon.
    for i in range(1, len(at)):
        if np.isnan(offsets[i]).any():
            offsets[i] = offsets[i - 1]
    return PointCalibration(model.name, at, offsets)

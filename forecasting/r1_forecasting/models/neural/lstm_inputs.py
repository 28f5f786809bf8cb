"""Inputs of the LSTM at an origin: the last steps, the phase, and earlier seasons ahead.

All are relative to the present on the root scale, so the weights still fit a service whose demand
has doubled. Shapes: context (origins, CONTEXT / PATCH, 2 * PATCH), side (origins, 3 + 2 * knots).
The recurrence reads patches of `PATCH` steps, which takes a quarter of the time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from r1_forecasting.arrays import FloatArray, IntArray
from r1_forecasting.calibration.root_scale import RootScale
from r1_forecasting.models.baselines.last_value import MAX_FILL_STEPS
from r1_forecasting.series.series import Series
from r1_forecasting.series.windows import average, largest, seasonal

CONTEXT = 60
PATCH = 4
SEASONS = 5


@dataclass(frozen=True, slots=True, eq=False)
class Inputs:
    """One row per origin; ``usable`` marks the rows with a present value."""

    now: FloatArray
    context: FloatArray
    side: FloatArray
    usable: np.ndarray[tuple[int], np.dtype[np.bool_]]


def build_inputs(
    series: Series,
    origins: IntArray,
    *,
    scale: RootScale,
    unit: float,
    season: float,
    knots: IntArray,
) -> Inputs:
    """Features at ``origins``; ``unit`` is the root-scale spread that becomes 1.

    A missing step is 0 (no change) with the observed flag 0; an unknown earlier season is 0.
    """
    filled = series.forward_filled(MAX_FILL_STEPS)
    now = scale.to(filled[origins])
    back = origins[:, None] + np.arange(1 - CONTEXT, 1)[None, :]
    past = np.where(back >= 0, series.values[np.maximum(back, 0)], np.nan)
    change = (scale.to(past) - now[:, None]) / unit
    observed = ~np.isnan(change)
    both = np.stack([np.where(observed, change, 0.0), observed.astype(np.float64)], axis=2)
    context = both.reshape(len(origins), CONTEXT // PATCH, 2 * PATCH)

    here = average(
        scale.to(seasonal(filled, origins, np.zeros(1, np.int64), season, SEASONS))[:, 0], axis=1
    )
    columns = [(here - now) / unit]
    for k in knots.tolist():
        window = np.arange(1, k + 1, dtype=np.int64)
        ahead = scale.to(seasonal(series.values, origins, window, season, SEASONS))
        columns.append((average(ahead[:, -1], axis=1) - here) / unit)
        columns.append((average(largest(ahead, axis=1), axis=1) - here) / unit)
    phase = 2 * np.pi * ((series.start / series.step + origins) % season) / season
    side = np.stack([*columns, np.sin(phase), np.cos(phase)], axis=1)
    return Inputs(now, np.clip(context, -8, 8), np.clip(np.nan_to_num(side), -8, 8), ~np.isnan(now))

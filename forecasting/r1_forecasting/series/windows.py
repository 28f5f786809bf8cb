"""Windows ahead for scoring and seasonal lags for prediction, at many origins at once.

Lags are masked at the origin: an index after the origin reads NaN. This one mask keeps every model
free of look-ahead.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from r1_forecasting.arrays import FloatArray, IntArray


def future(values: FloatArray, origins: IntArray, steps: int) -> FloatArray:
    """The ``steps`` values after each origin, for scoring only; shape (origins, steps)."""
    index = origins[:, None] + np.arange(1, steps + 1)[None, :]
    return np.where(index < len(values), values[np.minimum(index, len(values) - 1)], np.nan)


def future_peak(values: FloatArray, origins: IntArray, steps: int) -> FloatArray:
    """The maximum over the ``steps`` after each origin; shape (origins,).

    NaN where the window runs past the end or less than half of it was observed.
    """
    ahead = future(values, origins, steps)
    observed = ~np.isnan(ahead)
    peak = np.where(observed, ahead, -np.inf).max(axis=1)
    complete = (origins + steps < len(values)) & (observed.sum(axis=1) * 2 >= steps)
    return np.where(complete, peak, np.nan)


def seasonal(
    values: FloatArray, origins: IntArray, horizons: IntArray, season: float, seasons: int
) -> FloatArray:
    """Values at the same phase in the last ``seasons`` known seasons.

    Shape (origins, horizons, seasons), nearest season first. A horizon beyond one season
    starts at the first season that lies wholly in the past.
    """
    first = np.maximum(np.ceil(horizons / season - 1e-9), 1)
    lag = np.rint((first[:, None] + np.arange(seasons)[None, :]) * season).astype(np.int64)
    index = origins[:, None, None] + horizons[None, :, None] - lag[None, :, :]
    known = (index >= 0) & (index <= origins[:, None, None])
    return np.where(known, values[np.clip(index, 0, len(values) - 1)], np.nan)


def largest(values: FloatArray, axis: int) -> FloatArray:
    """Maximum along an axis, without gaps; NaN where all are gaps."""
    observed = ~np.isnan(values)
    top = np.where(observed, values, -np.inf).max(axis=axis)
    return np.where(observed.any(axis=axis), top, np.nan)


def average(values: FloatArray, axis: int) -> FloatArray:
    """Mean along an axis, without gaps; NaN where all are gaps."""
    observed = ~np.isnan(values)
    count = observed.sum(axis=axis)
    total = np.where(observed, values, 0.0).sum(axis=axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def row_quantiles(values: FloatArray, levels: Sequence[float]) -> FloatArray:
    """Quantiles of each row, linear between order statistics, without gaps.

    (rows, n) -> (rows, levels). NumPy's nanquantile walks rows one by one; this sorts once.
    """
    ordered = np.sort(values, axis=1)  # NaN last
    count = np.count_nonzero(~np.isnan(values), axis=1)
    place = np.maximum(count - 1, 0)[:, None] * np.asarray(levels)[None, :]
    low = np.floor(place).astype(np.int64)
    high = np.minimum(low + 1, np.maximum(count - 1, 0)[:, None])
    left = np.take_along_axis(ordered, low, axis=1)
    right = np.take_along_axis(ordered, high, axis=1)
    result: FloatArray = left + (right - left) * (place - low)
    return result


def knots(longest: int) -> IntArray:
    """1, 2, 3, 4, 6, 8, 12, ... up to ``longest``: horizons at which a smooth function is computed.

    Between them it is interpolated.
    """
    result = {1, longest}
    power = 1
    while power <= longest:
        result.update(k for k in (power, power + power // 2) if k <= longest)
        power *= 2
    return np.array(sorted(result), dtype=np.int64)

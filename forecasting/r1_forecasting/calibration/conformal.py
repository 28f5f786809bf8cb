"""Conformal calibration: scores of past forecasts and the quantiles corrected by them.

For each level the score of a past forecast is (actual - quantile) on the root scale. The
corrected quantile adds the empirical quantile, at the same level, of the last scores
known at the origin, at rank ceil((n + 1) level): one-sided split conformal
(Vovk et al. 2005; the per-quantile form is Romano, Patterson & Candes 2019), taken over a
rolling window because traffic drifts (see ``adaptive``). The model may be any, including a
point forecast.
"""

from __future__ import annotations

import numpy as np

from r1_forecasting.arrays import FloatArray
from r1_forecasting.calibration.root_scale import RootScale

MIN_SCORES = 20
"""Least number of scores for a correction."""


def scores(raw: FloatArray, actual: FloatArray, scale: RootScale) -> FloatArray:
    """(n, levels) raw quantiles and (n,) outcomes -> (n, levels) signed errors."""
    return scale.to(actual).reshape(-1, 1) - scale.to(raw)


def corrected(
    raw: FloatArray, offsets: FloatArray, scale: RootScale, ceiling: FloatArray
) -> FloatArray:
    """Quantiles (..., levels) plus their offsets, sorted, between 0 and ``ceiling``.

    ``ceiling`` broadcasts against the result: it bounds the result of a wrong model.
    """
    moved = scale.back(scale.to(raw) + offsets)
    ordered = np.sort(moved, axis=-1)  # quantiles never cross; NaN sorts last
    ordered = np.where(np.isnan(moved).any(axis=-1, keepdims=True), np.nan, ordered)
    return np.minimum(ordered, ceiling)

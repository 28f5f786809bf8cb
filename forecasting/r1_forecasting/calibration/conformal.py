"""Conformal calibration: the errors that correct a forecast, and quantiles corrected by them.

For each level the score of a past forecast is (actual - quantile) on the root scale. The
corrected quantile adds the level's own empirical quantile of the last scores that were
already known at the origin, at rank ceil((n + 1) level): one-sided split conformal
(Vovk et al. 2005; the per-quantile form is Romano, Patterson & Candes 2019), taken over a
rolling window because traffic drifts (see ``adaptive``). It works around any model, a point
forecast included.
"""

from __future__ import annotations

import numpy as np

from r1_forecasting.arrays import FloatArray
from r1_forecasting.calibration.root_scale import RootScale

FEWEST = 20
"""Scores below this many calibrate nothing."""


def scores(raw: FloatArray, actual: FloatArray, scale: RootScale) -> FloatArray:
    """(n, levels) raw quantiles and (n,) outcomes -> (n, levels) signed errors."""
    return scale.to(actual).reshape(-1, 1) - scale.to(raw)


def corrected(
    raw: FloatArray, offsets: FloatArray, scale: RootScale, ceiling: FloatArray
) -> FloatArray:
    """Quantiles (..., levels) moved by their offsets, in order, between 0 and ``ceiling``.

    ``ceiling`` broadcasts against the result: it bounds what a wrong model can ask for.
    """
    moved = scale.back(scale.to(raw) + offsets)
    ordered = np.sort(moved, axis=-1)  # quantiles never cross; NaN sorts last
    ordered = np.where(np.isnan(moved).any(axis=-1, keepdims=True), np.nan, ordered)
    return np.minimum(ordered, ceiling)

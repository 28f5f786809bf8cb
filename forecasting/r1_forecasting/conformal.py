"""Rolling conformal calibration: quantiles corrected by how far they were off lately.

For each level the score of a past forecast is (actual - quantile) on the root scale. The
corrected quantile adds the level's own empirical quantile of the last scores that were
already known at the origin, at rank ceil((n + 1) level): one-sided split conformal
(Vovk et al. 2005; the per-quantile form is Romano, Patterson & Candes 2019), taken over a
rolling window because traffic drifts. It works around any model, a point forecast included.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from r1_forecasting.protocol import FloatArray, IntArray
from r1_forecasting.scale import RootScale

FEWEST = 20
"""Scores below this many calibrate nothing."""


def scores(raw: FloatArray, actual: FloatArray, scale: RootScale) -> FloatArray:
    """(n, levels) raw quantiles and (n,) outcomes -> (n, levels) signed errors."""
    return scale.to(actual).reshape(-1, 1) - scale.to(raw)


def offset(recent: FloatArray, levels: Sequence[float]) -> FloatArray:
    """The correction (levels,) from scores (n, levels); NaN with fewer than ``FEWEST``."""
    now = np.array([len(recent)])
    found: FloatArray = rolling_offsets(recent, now, window=max(len(recent), 1), levels=levels)[0]
    return found


def rolling_offsets(
    known: FloatArray, available: IntArray, *, window: int, levels: Sequence[float]
) -> FloatArray:
    """Corrections as they stood at several moments.

    ``known``: scores (n, levels) in the order in which their outcomes became known;
    ``available`` (m,): how many of them were known at each moment. Returns (m, levels).
    """
    index = available[:, None] - 1 - np.arange(window)[None, :]
    result = np.full((len(available), len(levels)), np.nan)
    if len(known) == 0:
        return result
    for q, level in enumerate(levels):
        recent = np.where(index >= 0, known[np.maximum(index, 0), q], np.nan)
        ordered = np.sort(recent, axis=1)  # NaN last
        count = np.count_nonzero(~np.isnan(recent), axis=1)
        rank = np.clip(np.ceil((count + 1) * level).astype(np.int64), 1, np.maximum(count, 1))
        chosen = np.take_along_axis(ordered, rank[:, None] - 1, axis=1)[:, 0]
        result[:, q] = np.where(count >= FEWEST, chosen, np.nan)
    return result


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

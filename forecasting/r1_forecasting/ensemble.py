"""From what models said to what is issued: mixed, and each and the mixture calibrated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from r1_forecasting.adaptive import adaptive_offsets
from r1_forecasting.conformal import FEWEST, corrected, scores
from r1_forecasting.mixture import MIXTURE, mix
from r1_forecasting.protocol import FloatArray, IntArray
from r1_forecasting.scale import RootScale

CALIBRATION_SEASONS = 2.0
CALIBRATION_WINDOWS = 28.0
"""The rolling window holds this many times the horizon, where two seasons do not."""
CALIBRATIONS_PER_SEASON = 144
CALIBRATIONS_PER_HORIZON = 48
"""Corrections change no more often than either says: outcomes far ahead overlap for long."""


def calibrate(
    raw: FloatArray,
    actual: FloatArray,
    origins: IntArray,
    steps: int,
    *,
    season: float,
    levels: Sequence[float],
    scale: RootScale,
) -> FloatArray:
    """Corrections (origins, levels) on the root scale for raw quantiles of the same shape."""
    gap = max(1, round(float(np.median(np.diff(origins))))) if len(origins) > 1 else 1
    every = max(season / CALIBRATIONS_PER_SEASON, steps / CALIBRATIONS_PER_HORIZON)
    stride = max(1, round(every / gap))
    span = max(CALIBRATION_SEASONS * season, CALIBRATION_WINDOWS * steps)
    window = max(round(span / (gap * stride)), 5 * FEWEST)
    errors = scores(raw, actual, scale)
    return adaptive_offsets(errors, origins, steps, window=window, levels=levels, stride=stride)


def issue_all(
    raw: Mapping[str, FloatArray],
    actual: FloatArray,
    origins: IntArray,
    steps: int,
    *,
    season: float,
    levels: Sequence[float],
    scale: RootScale,
    ceiling: FloatArray,
    keep_median: bool = False,
) -> dict[str, FloatArray]:
    """Issued quantiles (origins, levels) of each model and of their mixture.

    ``raw`` (origins, levels) each; ``actual`` (origins,) became known ``steps`` after its
    origin; ``ceiling`` (origins,) bounds what may be issued. NaN where a model is silent or
    not calibrated yet. With ``keep_median`` levels up to the median stay as they were drawn:
    a value's median is what has the least error, a correction only adds its own noise. (A
    maximum's is not: the last value lies below it by construction.)
    """
    together, _ = mix(raw, actual, origins, steps, season, levels)
    issued = {}
    for name, drawn in {**raw, MIXTURE: together}.items():
        offsets = calibrate(
            drawn, actual, origins, steps, season=season, levels=levels, scale=scale
        )
        if keep_median:
            offsets[:, np.asarray(levels) <= 0.5] *= 0.0  # NaN stays NaN
        issued[name] = corrected(drawn, offsets, scale, ceiling[:, None])
    return issued

"""From what models said to what is issued: mixed, and each and the mixture calibrated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from r1_forecasting.arrays import FloatArray, IntArray
from r1_forecasting.calibration.adaptive import adaptive_offsets, read_window, rebound
from r1_forecasting.calibration.conformal import FEWEST, corrected, scores
from r1_forecasting.calibration.root_scale import RootScale
from r1_forecasting.selection.mixture import MIXTURE, mix
from r1_forecasting.selection.sampling_strides import stride_near

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
    stride = stride_near(max(1, round(every / gap)), max(1, round(season / gap)))
    window = max(round(_span(season, steps) / (gap * stride)), 5 * FEWEST)
    errors = scores(raw, actual, scale)
    return adaptive_offsets(
        errors,
        origins,
        steps,
        window=window,
        levels=levels,
        stride=stride,
        rebounds=_far(steps, season),
    )


def window_offset(
    errors: FloatArray, origins: IntArray, steps: int, season: float, levels: Sequence[float]
) -> FloatArray:
    """The correction (levels,) that the newest errors (n, levels) call for; nothing adapted.

    NaN with fewer than ``FEWEST`` known ones. What ``calibrate`` would say before any miss or
    hit, at the cost of one look: for the many horizons of a forecast's points.
    """
    known = ~np.asarray(np.isnan(errors).any(axis=1))
    at, recent = origins[known], errors[known]
    newest = at >= (at[-1] if len(at) else 0) - _span(season, steps)
    kept = max(int(np.count_nonzero(newest)), 5 * FEWEST)
    at, recent = at[-kept:], recent[-kept:]
    if len(recent) < FEWEST:
        return np.full(len(levels), np.nan)
    span = float(at[-1] - at[0]) / max(steps, 1)
    found = read_window(recent, np.asarray(levels, dtype=np.float64), levels, span)
    if _far(steps, season):
        last = recent[at + steps > origins[-1] - steps]
        found = found + rebound(last, np.broadcast_to(found, last.shape), levels)
    return found


def _far(steps: int, season: float) -> bool:
    """Half a season ahead or further, where an outcome of its own comes once in a long while."""
    return 2 * steps >= season


def _span(season: float, steps: int) -> float:
    """How many steps of past errors correct a forecast ``steps`` ahead."""
    return max(CALIBRATION_SEASONS * season, CALIBRATION_WINDOWS * steps)


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

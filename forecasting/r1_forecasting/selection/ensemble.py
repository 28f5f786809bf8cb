"""Mixture of the models' raw quantiles, and calibration of each model and of the mixture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from r1_forecasting.arrays import FloatArray, IntArray
from r1_forecasting.calibration.adaptive import adaptive_offsets, read_window, rebound
from r1_forecasting.calibration.conformal import MIN_SCORES, corrected, scores
from r1_forecasting.calibration.root_scale import RootScale
from r1_forecasting.selection.mixture import MIXTURE, mix
from r1_forecasting.selection.sampling_strides import stride_near

CALIBRATION_SEASONS = 2.0
CALIBRATION_WINDOWS = 28.0
"""Least length of the rolling window, in multiples of the horizon."""
CALIBRATIONS_PER_SEASON = 144
CALIBRATIONS_PER_HORIZON = 48
"""Most changes of the corrections; outcomes far ahead overlap for long."""


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
    window = max(round(_span(season, steps) / (gap * stride)), 5 * MIN_SCORES)
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
    """Correction (levels,) from the newest errors (n, levels), without adaptation of the level.

    NaN with fewer than ``MIN_SCORES`` known errors. It equals ``calibrate`` before any miss or hit,
    at a fraction of the cost, for the many horizons of a forecast's points.
    """
    known = ~np.asarray(np.isnan(errors).any(axis=1))
    at, recent = origins[known], errors[known]
    newest = at >= (at[-1] if len(at) else 0) - _span(season, steps)
    count = max(int(np.count_nonzero(newest)), 5 * MIN_SCORES)
    at, recent = at[-count:], recent[-count:]
    if len(recent) < MIN_SCORES:
        return np.full(len(levels), np.nan)
    span = float(at[-1] - at[0]) / max(steps, 1)
    correction = read_window(recent, np.asarray(levels, dtype=np.float64), levels, span)
    if _far(steps, season):
        last = recent[at + steps > origins[-1] - steps]
        correction = correction + rebound(last, np.broadcast_to(correction, last.shape), levels)
    return correction


def _far(steps: int, season: float) -> bool:
    """Half a season ahead or further, where separate outcomes are rare."""
    return 2 * steps >= season


def _span(season: float, steps: int) -> float:
    """Number of steps whose errors correct a forecast ``steps`` ahead."""
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
    origin; ``ceiling`` (origins,) bounds the issued quantiles. NaN where a model has no value or
    is not calibrated yet. With ``keep_median`` levels up to the median are not corrected: the
    median of a value has the least error, and a correction adds its own noise. (The median of a
    maximum is biased: the last value lies below it by construction.)
    """
    mixture, _ = mix(raw, actual, origins, steps, season, levels)
    issued = {}
    for name, quantiles in {**raw, MIXTURE: mixture}.items():
        offsets = calibrate(
            quantiles, actual, origins, steps, season=season, levels=levels, scale=scale
        )
        if keep_median:
            offsets[:, np.asarray(levels) <= 0.5] *= 0.0  # NaN stays NaN
        issued[name] = corrected(quantiles, offsets, scale, ceiling[:, None])
    return issued

"""Adaptive conformal calibration: a rolling window of errors, read at a level that adapts.

The rolling correction of ``conformal`` assumes that the last errors resemble the next ones. Where
traffic drifts, coverage is off for days. So the level at which the window is read moves with each
miss and hit (Gibbs & Candes 2021), and coverage tends to its nominal level for any series. An
outcome is used only after its time has passed.

A day ahead, the outcomes of one day are strongly correlated: 144 of them count as about one sample.
So levels move by separate (non-overlapping) outcomes, not by rows, and a spread observed in ``m``
separate outcomes is widened by Student's t for the next one.

An anomalous day differs from the days in the window. Afterwards demand either stays or returns, and
the forecast, which has learned part of the day, lies between. So half of the distance by which the
last outcome fell outside the band on one side is added on the other side (``rebound``).
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from r1_forecasting.arrays import FloatArray, IntArray
from r1_forecasting.calibration.conformal import MIN_SCORES

RATE = 0.02
"""A level moves by this times (hit - level) with each row that is used ..."""
RATE_APART = 0.25
"""... but by no more than this over all rows of one separate outcome."""
REACH = 0.9
"""How far a level may move, as a share of its distance from the nearer of 0 and 1."""
REBOUND = 0.5
"""Share of the distance outside the band on one side that is added on the other side."""
MIN_OUTCOMES_APART = 3.0
"""Least number of separate outcomes for the widening: a t of one degree of freedom is useless."""


def adaptive_offsets(
    errors: FloatArray,
    origins: IntArray,
    delay: int,
    *,
    window: int,
    levels: Sequence[float],
    stride: int = 1,
    rebounds: bool = False,
) -> FloatArray:
    """Corrections (n, levels) to add to raw quantiles on the root scale, one row an origin.

    ``errors`` (n, levels) are (outcome - quantile) at each of the ascending ``origins``
    (n,), NaN where unknown; row j is known from ``origins[j] + delay`` on. Every ``stride``-th
    row is used, the last ``window`` of these form the window, and corrections change as often.
    NaN before ``MIN_SCORES`` errors are known.

    ``read_window`` reads the window. With ``rebounds`` the ``rebound`` of the last separate outcome
    is added. The levels ignore it: a day without need of it must not narrow other days' bands.
    """
    count = len(levels)
    nominal = np.asarray(levels, dtype=np.float64)
    reach = REACH * np.minimum(nominal, 1 - nominal)
    level = nominal.copy()
    base = np.full((len(origins), count), np.nan)
    added = np.zeros((len(origins), count))
    rows = [j for j in range(0, len(origins), stride) if not np.isnan(errors[j]).any()]
    gap = float(np.median(np.diff(origins))) * stride if len(origins) > 1 else 1.0
    apart_by_row = min(gap / max(delay, 1), 1.0)
    rate = min(RATE, RATE_APART * apart_by_row)
    known_at = origins[np.array(rows, dtype=np.int64)] + delay
    taken = 0
    current = np.full(count, np.nan)
    for i in range(len(origins)):
        before = taken
        while taken < len(rows) and known_at[taken] <= origins[i]:
            j = rows[taken]
            issued = base[j]
            if not np.isnan(issued).any():
                covered = errors[j] <= issued + 1e-12
                level = level + rate * (nominal - covered)
                level = np.clip(level, nominal - reach, nominal + reach)
            taken += 1
        if taken > before and taken >= MIN_SCORES:
            recent = rows[max(taken - window, 0) : taken]
            span = (origins[recent[-1]] - origins[recent[0]]) / max(delay, 1)
            current = read_window(errors[recent], level, levels, span, apart_by_row)
        base[i] = current
        if rebounds:
            newest = rows[int(np.searchsorted(known_at, origins[i] - delay, "right")) : taken]
            added[i] = rebound(errors[newest], base[newest], levels)
    return base + added


def rebound(errors: FloatArray, offsets: FloatArray, levels: Sequence[float]) -> FloatArray:
    """Correction (levels,) on the side opposite to the last outcome; 0 for an outcome in the band.

    ``errors`` (n, levels) of the last separate outcome's rows and the ``offsets`` (n, levels)
    in force when they were forecast, NaN without any. A quantile and its mirror image at the
    middle are a band: above the median it rises by ``REBOUND`` times the mean of how far outcomes
    fell below that band, below the median it falls by as much of how far they rose above it.
    """
    at = np.asarray(levels, dtype=np.float64)
    middle = int(np.argmin(np.abs(at - 0.5)))
    beyond = errors - offsets - 2 * errors[:, [middle]]
    side = np.sign(at - 0.5)
    out = side * np.maximum(side * beyond, 0.0)
    out = out[~np.isnan(out).any(axis=1)]
    return REBOUND * out.mean(axis=0) if len(out) else np.zeros(len(at))


def read_window(
    errors: FloatArray, at: FloatArray, levels: Sequence[float], span: float, each: float = 0.0
) -> FloatArray:
    """The correction (levels,) from a window of errors (n, levels), none of them NaN.

    ``at`` (levels,) is where each of ``levels`` is read. The window's first and last row lie
    ``span`` delays apart and count as ``m = span`` separate outcomes: it is read at
    ``(m at + 1) / (m + 1)``, since the next outcome may lie above all others, and the
    distance from the window's median grows by ``widening`` for ``m + each`` of them, ``each``
    being the part of an outcome that a single row is.
    """
    ordered = np.sort(errors, axis=0)
    apart = max(span, 1.0)
    read = (apart * at + 1) / (apart + 1)
    rank = np.ceil((len(ordered) + 1) * read).astype(np.int64)
    drawn = ordered[np.clip(rank, 1, len(ordered)) - 1, np.arange(len(levels))]
    middle = ordered[(len(ordered) - 1) // 2]
    result: FloatArray = middle + (drawn - middle) * widening(apart + each, levels)
    return result


def widening(apart: float, levels: Sequence[float]) -> FloatArray:
    """Factor (levels,) by which a quantile of the next outcome lies farther out than in a sample.

    The ratio of Student's prediction quantile ``t sqrt(1 + 1/m)``, ``m - 1`` degrees of
    freedom, to the normal one; 1 at the median. ``t`` by its expansion in the normal quantile
    (Abramowitz & Stegun 26.7.5), within 2 % from two degrees of freedom on.
    """
    m = max(apart, MIN_OUTCOMES_APART)
    free = m - 1
    z = np.array([NormalDist().inv_cdf(level) for level in levels])
    ratio = (  # t / z, so that the median needs no division
        1
        + (z**2 + 1) / (4 * free)
        + (5 * z**4 + 16 * z**2 + 3) / (96 * free**2)
        + (3 * z**6 + 19 * z**4 + 17 * z**2 - 15) / (384 * free**3)
    )
    result: FloatArray = np.where(z == 0, 1.0, ratio * np.sqrt(1 + 1 / m))
    return result

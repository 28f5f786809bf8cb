"""Adaptive conformal calibration in the order of events: a window, and a level that learns.

The rolling correction of ``conformal`` assumes that the last errors are like the next ones.
Where traffic drifts they are not, and the share below a quantile strays for days. So the
level at which the window is read moves with each miss and hit (Gibbs & Candes 2021):
whatever the series does, the share below the quantile tends to its level. Outcomes are
taken in only once their time has passed.

A day ahead the outcomes of one day rise and fall together: 144 of them are one sample more
than 144. So levels move by what separate outcomes say, not by rows, and a spread that was
seen in ``m`` separate outcomes is widened as Student's t asks for the next one.

An odd day is not like the days the window holds: after it things go on so or go back, and the
forecast, which has learned part of it, lies between. So as far as the last outcome fell out
of the band on one side, half of that is added on the other (``rebound``).
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from r1_forecasting.arrays import FloatArray, IntArray
from r1_forecasting.calibration.conformal import FEWEST

RATE = 0.02
"""A level moves by this times (hit - level) with each row that is learned from ..."""
RATE_APART = 0.25
"""... but by no more than this over all rows of one separate outcome."""
REACH = 0.9
"""How far a level may move, as a share of its distance from the nearer of 0 and 1."""
REBOUND = 0.5
"""Of what fell out of the band on one side, the share that is added on the other."""
FEWEST_APART = 3.0
"""Fewer separate outcomes widen as these many: a t of one degree of freedom says nothing."""


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
    (n,), NaN where unknown; row j counts from ``origins[j] + delay`` on. Every ``stride``-th
    row is learned from, the last ``window`` of these form the window, and corrections change
    as often. NaN before ``FEWEST`` errors are known.

    How the window is read says ``read_window``. With ``rebounds`` the ``rebound`` of the last
    separate outcome is added, of which the levels learn nothing: a day on which it was needless
    must not narrow the band of days that have none.
    """
    count = len(levels)
    nominal = np.asarray(levels, dtype=np.float64)
    reach = REACH * np.minimum(nominal, 1 - nominal)
    level = nominal.copy()
    plain = np.full((len(origins), count), np.nan)
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
            issued = plain[j]
            if not np.isnan(issued).any():
                held = errors[j] <= issued + 1e-12
                level = level + rate * (nominal - held)
                level = np.clip(level, nominal - reach, nominal + reach)
            taken += 1
        if taken > before and taken >= FEWEST:
            seen = rows[max(taken - window, 0) : taken]
            span = (origins[seen[-1]] - origins[seen[0]]) / max(delay, 1)
            current = read_window(errors[seen], level, levels, span, apart_by_row)
        plain[i] = current
        if rebounds:
            newest = rows[int(np.searchsorted(known_at, origins[i] - delay, "right")) : taken]
            added[i] = rebound(errors[newest], plain[newest], levels)
    return plain + added


def rebound(errors: FloatArray, offsets: FloatArray, levels: Sequence[float]) -> FloatArray:
    """What the newest outcomes ask for on the other side (levels,); 0 where they ask nothing.

    ``errors`` (n, levels) of the last separate outcome's rows and the ``offsets`` (n, levels)
    that held when they were forecast, NaN where none did. A quantile and its mirror image at the
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
    ``(m at + 1) / (m + 1)``, since one outcome yet unseen may lie above all others, and the
    distance from the window's median grows by ``widening`` for ``m + each`` of them, ``each``
    being the part of an outcome that a single row is.
    """
    ordered = np.sort(errors, axis=0)
    apart = max(span, 1.0)
    read = (apart * at + 1) / (apart + 1)
    rank = np.ceil((len(ordered) + 1) * read).astype(np.int64)
    drawn = ordered[np.clip(rank, 1, len(ordered)) - 1, np.arange(len(levels))]
    middle = ordered[(len(ordered) - 1) // 2]
    found: FloatArray = middle + (drawn - middle) * widening(apart + each, levels)
    return found


def widening(apart: float, levels: Sequence[float]) -> FloatArray:
    """How much farther out a quantile of the next of ``apart`` + 1 outcomes lies (levels,).

    The ratio of Student's prediction quantile ``t sqrt(1 + 1/m)``, ``m - 1`` degrees of
    freedom, to the normal one; 1 at the median. ``t`` by its expansion in the normal quantile
    (Abramowitz & Stegun 26.7.5), within 2 % from two degrees of freedom on.
    """
    m = max(apart, FEWEST_APART)
    free = m - 1
    z = np.array([NormalDist().inv_cdf(level) for level in levels])
    ratio = (  # t / z, so that the median needs no division
        1
        + (z**2 + 1) / (4 * free)
        + (5 * z**4 + 16 * z**2 + 3) / (96 * free**2)
        + (3 * z**6 + 19 * z**4 + 17 * z**2 - 15) / (384 * free**3)
    )
    found: FloatArray = np.where(z == 0, 1.0, ratio * np.sqrt(1 + 1 / m))
    return found

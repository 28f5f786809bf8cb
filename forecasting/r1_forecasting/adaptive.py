"""Adaptive conformal calibration in the order of events: a window, and a level that learns.

The rolling correction of ``conformal`` assumes that the last errors are like the next ones.
Where traffic drifts they are not, and the share below a quantile strays for days. So the
level at which the window is read moves by ``RATE`` with each miss and hit (Gibbs & Candes
2021): whatever the series does, the share below the quantile tends to its level. Outcomes
are taken in only once their time has passed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from r1_forecasting.conformal import FEWEST
from r1_forecasting.protocol import FloatArray, IntArray

RATE = 0.02
REACH = 0.9
"""How far a level may move, as a share of its distance from the nearer of 0 and 1."""


def adaptive_offsets(
    errors: FloatArray,
    origins: IntArray,
    delay: int,
    *,
    window: int,
    levels: Sequence[float],
    stride: int = 1,
) -> FloatArray:
    """Corrections (n, levels) to add to raw quantiles on the root scale, one row an origin.

    ``errors`` (n, levels) are (outcome - quantile) at each of the ascending ``origins``
    (n,), NaN where unknown; row j counts from ``origins[j] + delay`` on. Every ``stride``-th
    row is learned from, the last ``window`` of these form the window, and corrections change
    as often. NaN before ``FEWEST`` errors are known.

    Outcomes of windows that overlap tell the same thing, so the window counts as
    ``m = its span / delay`` of them and the level is read at ``(m level + 1) / (m + 1)``:
    one outcome yet unseen may lie above all others. That widens a day ahead, not ten minutes.
    """
    count = len(levels)
    nominal = np.asarray(levels, dtype=np.float64)
    reach = REACH * np.minimum(nominal, 1 - nominal)
    level = nominal.copy()
    result = np.full((len(origins), count), np.nan)
    rows = [j for j in range(0, len(origins), stride) if not np.isnan(errors[j]).any()]
    taken = 0
    current = np.full(count, np.nan)
    for i in range(len(origins)):
        before = taken
        while taken < len(rows) and origins[rows[taken]] + delay <= origins[i]:
            j = rows[taken]
            issued = result[j]
            if not np.isnan(issued).any():
                held = errors[j] <= issued + 1e-12
                level = level + RATE * (nominal - held)
                level = np.clip(level, nominal - reach, nominal + reach)
            taken += 1
        if taken > before and taken >= FEWEST:
            seen = rows[max(taken - window, 0) : taken]
            recent = np.sort(errors[seen], axis=0)
            apart = max((origins[seen[-1]] - origins[seen[0]]) / max(delay, 1), 1.0)
            read = (apart * level + 1) / (apart + 1)
            rank = np.ceil((len(recent) + 1) * read).astype(np.int64)
            current = recent[np.clip(rank, 1, len(recent)) - 1, np.arange(count)]
        result[i] = current
    return result

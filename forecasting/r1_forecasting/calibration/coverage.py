"""Live coverage: the share of issued peaks whose outcome was at or below the quantile.

A backtest can overfit; live coverage counts issued forecasts after their window has passed.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

import numpy as np

from r1_forecasting.series.series import Series
from r1_forecasting.series.windows import future_peak

MAX_OUTCOMES = 500
MIN_OUTCOMES = 50
TOLERANCE = 0.05


@dataclass(frozen=True, slots=True)
class IssuedPeak:
    """Quantiles of the peak over the ``steps`` after time ``origin``, as issued."""

    origin: float
    steps: int
    quantiles: tuple[tuple[float, float], ...]


@dataclass(slots=True)
class CoverageTracker:
    """Issued peaks without an outcome yet, and the last outcomes per level."""

    pending: deque[IssuedPeak] = field(default_factory=lambda: deque(maxlen=4 * MAX_OUTCOMES))
    hits: dict[float, deque[bool]] = field(default_factory=dict)

    def record(self, issued: IssuedPeak) -> None:
        """Record a forecast; only the first one per origin counts."""
        if not self.pending or issued.origin > self.pending[-1].origin:
            self.pending.append(issued)

    def settle(self, series: Series) -> None:
        """Score every issued peak whose window the series covers now."""
        while self.pending:
            oldest = self.pending[0]
            if oldest.origin + oldest.steps * series.step > series.end + 1e-6:
                return
            self.pending.popleft()
            origin = series.index(oldest.origin)
            if origin < 0:
                continue
            peak = future_peak(series.values, np.array([origin]), oldest.steps)
            # A window that ends at the end of the series counts as complete: the maximum only grows.
            actual = float(peak[0])
            if math.isnan(actual):
                continue
            for level, quantile in oldest.quantiles:
                hits = self.hits.setdefault(level, deque(maxlen=MAX_OUTCOMES))
                hits.append(actual <= quantile + 1e-9)

    def live(self, level: float) -> tuple[float | None, int]:
        """Share of outcomes at or below the quantile, and their number; None without any."""
        outcomes = self.hits.get(level)
        if not outcomes:
            return None, 0
        return sum(outcomes) / len(outcomes), len(outcomes)

    def lost(self, level: float, overlap: int) -> bool:
        """Return whether live coverage is significantly below its level.

        Windows of ``overlap`` steps share outcomes, so they count as ``n / overlap``
        independent ones; three standard deviations and a tolerance must be passed.
        """
        share, samples = self.live(level)
        if share is None or samples < MIN_OUTCOMES:
            return False
        independent = max(samples / max(overlap, 1), 1.0)
        doubt = 3 * math.sqrt(level * (1 - level) / independent)
        return share < level - TOLERANCE - doubt

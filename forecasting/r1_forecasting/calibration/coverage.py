"""Live coverage: of the peaks that were announced, how many stayed below their quantile.

A backtest can flatter; this counts what was really issued, once its window has passed.
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
    """A peak announced at time ``origin`` for the ``steps`` after it."""

    origin: float
    steps: int
    quantiles: tuple[tuple[float, float], ...]


@dataclass(slots=True)
class CoverageTracker:
    """Announced peaks awaiting their outcome, and the last outcomes per level."""

    pending: deque[IssuedPeak] = field(default_factory=lambda: deque(maxlen=4 * MAX_OUTCOMES))
    hits: dict[float, deque[bool]] = field(default_factory=dict)

    def announce(self, issued: IssuedPeak) -> None:
        """Remember a forecast; one per origin, the first one said counts."""
        if not self.pending or issued.origin > self.pending[-1].origin:
            self.pending.append(issued)

    def settle(self, series: Series) -> None:
        """Score every announcement whose window the series now covers."""
        while self.pending:
            oldest = self.pending[0]
            if oldest.origin + oldest.steps * series.step > series.end + 1e-6:
                return
            self.pending.popleft()
            origin = series.index(oldest.origin)
            if origin < 0:
                continue
            peak = future_peak(series.values, np.array([origin]), oldest.steps)
            # A window that ends at the series' very end is complete here: outcomes only grow.
            actual = float(peak[0])
            if math.isnan(actual):
                continue
            for level, quantile in oldest.quantiles:
                kept = self.hits.setdefault(level, deque(maxlen=MAX_OUTCOMES))
                kept.append(actual <= quantile + 1e-9)

    def live(self, level: float) -> tuple[float | None, int]:
        """Share of outcomes at or below the quantile, and of how many; None without any."""
        outcomes = self.hits.get(level)
        if not outcomes:
            return None, 0
        return sum(outcomes) / len(outcomes), len(outcomes)

    def lost(self, level: float, overlap: int) -> bool:
        """Whether live coverage is below its level beyond doubt.

        Windows of ``overlap`` steps share outcomes, so they count as ``n / overlap``
        independent ones; three standard deviations and a tolerance must be passed.
        """
        share, samples = self.live(level)
        if share is None or samples < MIN_OUTCOMES:
            return False
        independent = max(samples / max(overlap, 1), 1.0)
        doubt = 3 * math.sqrt(level * (1 - level) / independent)
        return share < level - TOLERANCE - doubt

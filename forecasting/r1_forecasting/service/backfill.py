"""Schedule of backfill reads: history that arrives in Prometheus behind the newest sample.

A series is read once and then extended at its newest end. Older samples can arrive later: a
backfill, a Prometheus outage, a remote write that catches up. While the series begins after the
requested window, the missing part is read every `BACKFILL_STEPS` steps. The whole window is read
again `FULL_READS_PER_SEASON` times a season, which also finds filled gaps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

from r1_common.contracts.forecast_request import ForecastRequest
from r1_forecasting.series.series import Series

BACKFILL_STEPS: Final = 5
FULL_READ_STEPS: Final = 20
FULL_READS_PER_SEASON: Final = 24
"""Full reads per season, at least `FULL_READ_STEPS` steps apart."""

GROWTH_SHARE: Final = 0.05
"""Share by which the older history has to grow for models to be trained again."""


class TimeRange(NamedTuple):
    """Start and end, both included (Unix seconds)."""

    since: float
    until: float

    def contains(self, at: float) -> bool:
        """Return whether the time lies within the range."""
        return self.since <= at <= self.until


@dataclass(slots=True)
class BackfillWatcher:
    """Times of the last backfill reads of one series."""

    _backfill_read_at: float = -math.inf
    _full_read_at: float = -math.inf

    def mark_full_read(self, now: float) -> None:
        """Record a read of the whole window."""
        self._backfill_read_at = self._full_read_at = now

    def due(self, series: Series, request: ForecastRequest, now: float) -> TimeRange | None:
        """Return the range to read now and record the read; None where nothing is due."""
        if now < self._full_read_at:  # the clock was set back
            self.mark_full_read(-math.inf)
        since, step = now - request.history, request.step
        if now - self._full_read_at >= max(
            request.season / FULL_READS_PER_SEASON, FULL_READ_STEPS * step
        ):
            self.mark_full_read(now)
            return TimeRange(since, now)
        # The grid cuts off the first step of the window, and one more scrape may be missing.
        missing = TimeRange(since, series.start - step)
        if series.start - since < 3 * step or now - self._backfill_read_at < BACKFILL_STEPS * step:
            return None
        self._backfill_read_at = now
        return missing


def has_grown(before: Series, after: Series) -> bool:
    """Return whether history up to the end of `before` grew enough to train models again."""
    past = after.head(after.index(before.end) + 1)
    return past.observed - before.observed > GROWTH_SHARE * before.observed

"""When to look at the past again: it may have come late.

A series is read once and then followed at its newest end. But history can arrive behind that end: a
backfill, a Prometheus that was away, a remote write that catches up. Two looks find it. While the
known series begins after the window that was asked for, the part that lacks is asked for every few
steps; an empty answer costs next to nothing. And now and then the whole window is read again, which
also finds gaps that have filled.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

from r1_forecasting.request import ForecastRequest
from r1_forecasting.series.series import Series

BACKFILL_STEPS: Final = 5
FULL_READ_STEPS: Final = 20
FULL_READS_PER_SEASON: Final = 24
"""All is read again so many times a season, and not more often than every `WHOLE_STEPS`."""

GROWTH_SHARE: Final = 0.05
"""Share by which the known past has to grow for models to learn anew."""


class TimeRange(NamedTuple):
    """From and to, both included (unix seconds)."""

    since: float
    until: float

    def contains(self, at: float) -> bool:
        """Whether a time lies within."""
        return self.since <= at <= self.until


@dataclass(slots=True)
class BackfillWatcher:
    """When one subject's past was last looked at."""

    _backfill_read_at: float = -math.inf
    _full_read_at: float = -math.inf

    def mark_full_read(self, now: float) -> None:
        """The whole window was just read."""
        self._backfill_read_at = self._full_read_at = now

    def due(self, series: Series, request: ForecastRequest, now: float) -> TimeRange | None:
        """What to read again now, None for nothing; what is returned counts as looked at."""
        if now < self._full_read_at:  # the clock was set back
            self.mark_full_read(-math.inf)
        since, step = now - request.history, request.step
        if now - self._full_read_at >= max(
            request.season / FULL_READS_PER_SEASON, FULL_READ_STEPS * step
        ):
            self.mark_full_read(now)
            return TimeRange(since, now)
        # The window's own first step is cut off by the grid, and one scrape more may be.
        missing = TimeRange(since, series.start - step)
        if series.start - since < 3 * step or now - self._backfill_read_at < BACKFILL_STEPS * step:
            return None
        self._backfill_read_at = now
        return missing


def has_grown(before: Series, after: Series) -> bool:
    """Whether so much of the time up to `before`'s end became known that models should learn anew."""
    past = after.head(after.index(before.end) + 1)
    return past.observed - before.observed > GROWTH_SHARE * before.observed

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

from r1_forecasting.series.series import Series
from r1_forecasting.service.request import ForecastRequest

LOOK_STEPS: Final = 5
WHOLE_STEPS: Final = 20
WHOLE_PER_SEASON: Final = 24
"""All is read again so many times a season, and not more often than every `WHOLE_STEPS`."""

GROWN: Final = 0.05
"""Share by which the known past has to grow for models to learn anew."""


class Span(NamedTuple):
    """From and to, both included (unix seconds)."""

    since: float
    until: float

    def holds(self, at: float) -> bool:
        """Whether a time lies within."""
        return self.since <= at <= self.until


@dataclass(slots=True)
class BackfillWatcher:
    """When one subject's past was last looked at."""

    _start_at: float = -math.inf
    _whole_at: float = -math.inf

    def begin(self, now: float) -> None:
        """The whole window was just read."""
        self._start_at = self._whole_at = now

    def due(self, known: Series, request: ForecastRequest, now: float) -> Span | None:
        """What to read again now, None for nothing; what is returned counts as looked at."""
        if now < self._whole_at:  # the clock was set back
            self.begin(-math.inf)
        since, step = now - request.history, request.step
        if now - self._whole_at >= max(request.season / WHOLE_PER_SEASON, WHOLE_STEPS * step):
            self.begin(now)
            return Span(since, now)
        # The window's own first step is cut off by the grid, and one scrape more may be.
        lacking = Span(since, known.start - step)
        if known.start - since < 3 * step or now - self._start_at < LOOK_STEPS * step:
            return None
        self._start_at = now
        return lacking


def has_grown(before: Series, after: Series) -> bool:
    """Whether so much of the time up to `before`'s end became known that models should learn anew."""
    past = after.head(after.index(before.end) + 1)
    return past.observed - before.observed > GROWN * before.observed

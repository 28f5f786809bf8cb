"""Clock of the series: the time of the Prometheus that timestamps the samples.

History is read up to "now", and the age of the newest sample decides whether it is usable. The wall
clock of this machine can be wrong or be set. This clock takes the time from the Date header of
Prometheus' responses and advances it with the monotonic clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime

AGREEMENT_SECONDS = 5.0
"""Smaller differences are ignored: the header has whole seconds, and a response takes time."""


class SeriesClock:
    """Unix seconds; the wall clock of this machine before the first Date header.

    `update` may be called from any thread.
    """

    def __init__(
        self,
        *,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._ahead: float | None = None

    def now(self) -> float:
        """The current time of Prometheus (Unix seconds)."""
        ahead = self._ahead
        return self._wall() if ahead is None else self._monotonic() + ahead

    def update(self, date: str | None) -> None:
        """Set the time from an HTTP ``Date`` header; an invalid header is ignored."""
        try:
            dated = parsedate_to_datetime(date or "")
        except (TypeError, ValueError, OverflowError):
            return
        # A header without a zone is in UTC too (RFC 9110, 5.6.7).
        stated = (dated if dated.tzinfo else dated.replace(tzinfo=UTC)).timestamp()
        known = self.now()
        chosen = known if abs(stated - known) <= AGREEMENT_SECONDS else stated
        self._ahead = chosen - self._monotonic()

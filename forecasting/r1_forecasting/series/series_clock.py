"""The time of a series: the clock of the Prometheus that dates its samples.

History is asked for up to "now" and the newest sample's age decides whether it still counts. The wall
clock of this machine can be set, and an hour's difference would make an hour-old history the newest,
or the newest history too old. Prometheus dates every HTTP answer; this clock takes its time from
there and counts on with the monotonic clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime

AGREEMENT_SECONDS = 5.0
"""The header has whole seconds and an answer takes time: a smaller difference is none."""


class SeriesClock:
    """Unix seconds; by this machine's wall clock until the first answer was dated.

    `heard` may be called from any thread.
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
        """The time by which samples are dated (unix seconds)."""
        ahead = self._ahead
        return self._wall() if ahead is None else self._monotonic() + ahead

    def heard(self, date: str | None) -> None:
        """Take over the time of an HTTP ``Date`` header; what is none changes nothing."""
        try:
            dated = parsedate_to_datetime(date or "")
        except (TypeError, ValueError, OverflowError):
            return
        # A header without a zone is in UTC too (RFC 9110, 5.6.7).
        stated = (dated if dated.tzinfo else dated.replace(tzinfo=UTC)).timestamp()
        known = self.now()
        chosen = known if abs(stated - known) <= AGREEMENT_SECONDS else stated
        self._ahead = chosen - self._monotonic()

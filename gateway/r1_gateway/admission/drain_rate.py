"""How fast requests of each class leave the queue of a full pool.

A pool of ``n`` seats that are each held for ``h`` seconds frees ``n / h`` seats a second (Little's
law).  The mean of ``h`` is exponentially weighted and bias-corrected (as in Kingma and Ba 2015,
section 3), so that the first few requests weigh as much as they should.  The rate does not
depend on how busy the pool was before: a count of freed seats over time would be too low after an
idle period.

A class gets what the more urgent classes leave: their share of the latest starts is taken off.
"""

from __future__ import annotations

from r1_gateway.admission.classes import CLASSES, PriorityClass

WEIGHT = 0.05
"""Weight of the newest request in the mean time that a seat is held."""
FIRST_GUESS_SECONDS = 2.0
"""Time that a seat is held, before any request has ended."""
STARTS_REMEMBERED = 256
LEAST_SHARE = 0.03
"""Share of the starts that aged requests of the least urgent class get beside all others."""


class DrainRate:
    """Mean time that a seat is held, and each class's share of the starts."""

    __slots__ = ("_held", "_since", "_starts", "_weight", "idle")

    def __init__(self) -> None:
        self._held = 0.0
        self._weight = 0.0
        self.idle = True
        """no request runs"""
        self._since = 0.0  # when a seat was last freed, or the first of those running started
        self._starts = [0] * len(CLASSES)

    def started(self, klass: PriorityClass, now: float) -> None:
        """A request of this class got its seats."""
        if self.idle:
            self.idle = False
            self._since = now
        self._starts[klass] += 1

    def freed(self, seat_seconds: float, now: float) -> None:
        """A request ended that held its seats for so long (seats times seconds)."""
        self._since = now
        self._held += WEIGHT * (seat_seconds - self._held)
        self._weight += WEIGHT * (1.0 - self._weight)

    @property
    def held_seconds(self) -> float:
        """Mean time that a request holds a seat (times its seats)."""
        return self._held / self._weight if self._weight else FIRST_GUESS_SECONDS

    def per_second(self, klass: PriorityClass, seats: int, now: float) -> float:
        """Requests of ``klass`` a second that ``seats`` seats let start while all are taken.

        When no seat was freed for longer than a seat is held in the mean, the wait so far counts
        as that time: a pool that stands still does not drain at its former rate.
        """
        held = self.held_seconds
        if not self.idle:
            held = max(held, now - self._since)
        if held <= 0.0 or seats <= 0:
            return 0.0
        share = 1.0
        if total := sum(self._starts):
            share -= sum(self._starts[: klass.value]) / total
            if total >= STARTS_REMEMBERED:  # only here: starts are many, and questions few
                self._starts = [count * STARTS_REMEMBERED // (2 * total) for count in self._starts]
        return seats / held * max(share, LEAST_SHARE)

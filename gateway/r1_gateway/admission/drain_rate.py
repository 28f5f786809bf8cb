"""Drain rate of each class's queue while the pool is full.

A pool of ``n`` seats, each occupied for ``h`` seconds, frees ``n / h`` seats a second (Little's
law).  The mean of ``h`` is exponentially weighted and bias-corrected (Kingma and Ba 2015, section
3), so that the first requests have their full weight.  The rate does not depend on the earlier
utilisation: a count of freed seats over time would be too low after an idle period.

A class gets the share of the starts that more urgent classes leave.
"""

from __future__ import annotations

from r1_common.contracts.priority_classes import CLASSES, PriorityClass

WEIGHT = 0.05
"""Weight of the newest request in the mean time that a seat is occupied."""
MEASURED_WEIGHT = 0.3
"""Weight of the measurements from which on they are good enough to refuse a request: 7 requests."""
FIRST_GUESS_SECONDS = 2.0
"""Time that a seat is occupied, until the first request has ended."""
STARTS_REMEMBERED = 256
LEAST_SHARE = 0.03
"""Share of the starts that aged requests of the least urgent class always get."""


class DrainRate:
    """Mean time that a seat is occupied, and each class's share of the starts."""

    __slots__ = ("_occupancy", "_since", "_starts", "_weight", "idle")

    def __init__(self) -> None:
        self._occupancy = 0.0
        self._weight = 0.0
        self.idle = True
        """No request is in flight."""
        self._since = 0.0  # time of the last freed seat, or of the first start after an idle period
        self._starts = [0] * len(CLASSES)

    def started(self, klass: PriorityClass, now: float) -> None:
        """Count a start."""
        if self.idle:
            self.idle = False
            self._since = now
        self._starts[klass] += 1

    def freed(self, seat_seconds: float, now: float) -> None:
        """Count a request that ended, with its seats times its seconds."""
        self._since = now
        self._occupancy += WEIGHT * (seat_seconds - self._occupancy)
        self._weight += WEIGHT * (1.0 - self._weight)

    @property
    def measured(self) -> bool:
        """Whether enough requests have ended to predict a wait."""
        return self._weight > MEASURED_WEIGHT

    @property
    def occupancy_seconds(self) -> float:
        """Mean seconds that a request occupies a seat, times its seats."""
        return self._occupancy / self._weight if self._weight else FIRST_GUESS_SECONDS

    def per_second(self, klass: PriorityClass, seats: int, now: float) -> float:
        """Starts of ``klass`` per second while all ``seats`` are in use.

        When no seat was freed for longer than the mean occupancy, the time since the last one
        replaces the mean: a stalled pool does not drain at its earlier rate.
        """
        occupancy = self.occupancy_seconds
        if not self.idle:
            occupancy = max(occupancy, now - self._since)
        if occupancy <= 0.0 or seats <= 0:
            return 0.0
        share = 1.0
        if total := sum(self._starts):
            share -= sum(self._starts[: klass.value]) / total
            if (
                total >= STARTS_REMEMBERED
            ):  # here and not at each start: starts are more frequent than reads
                self._starts = [count * STARTS_REMEMBERED // (2 * total) for count in self._starts]
        return seats / occupancy * max(share, LEAST_SHARE)

"""Token bucket of a limit per minute.

The bucket holds one minute of the limit and refills evenly.  A charge above the level leaves a debt,
because the real tokens of a request are known only at its end, and because other gateways charge the
same limit.
"""

from __future__ import annotations

MINUTE_SECONDS = 60.0


class TokenBucket:
    """``capacity`` units per minute."""

    __slots__ = ("_at", "_level", "_promised", "_promised_at", "capacity", "per_second", "shown")

    def __init__(self, capacity: float, now: float) -> None:
        self.capacity = capacity
        self.per_second = capacity / MINUTE_SECONDS
        """Units that refill in a second."""
        self.shown = int(capacity)
        """The limit in the headers."""
        self._level = capacity
        self._at = now
        self._promised = 0.0  # units of refused requests that were given a time to return
        self._promised_at = now

    def resize(self, capacity: float, now: float) -> None:
        """Apply a changed limit; the units that are in use stay in use."""
        used = self.capacity - self.level(now)
        self.capacity = capacity
        self.per_second = capacity / MINUTE_SECONDS
        self.shown = int(capacity)
        self._level = capacity - used

    def level(self, now: float) -> float:
        """Units that are free at ``now`` (monotonic seconds); negative with a debt."""
        if now > self._at:
            level = self._level + (now - self._at) * self.per_second
            self._level = min(self.capacity, level)
            self._at = now
        return self._level

    def fits(self, amount: float, now: float) -> bool:
        """Whether ``amount`` is free; more than a full bucket counts as a full one."""
        level = self.level(now)
        return level >= amount or level >= self.capacity

    def take(self, amount: float, now: float) -> None:
        """Charge ``amount``; a negative one is a refund."""
        level = self.level(now) - amount
        self._level = min(self.capacity, level)

    def return_seconds(self, amount: float, now: float) -> float:
        """Seconds after which a refused request of ``amount`` fits.

        Each refused request gets its own time, after those that were refused before it.
        """
        amount = min(amount, self.capacity)
        refill = (now - self._promised_at) * self.per_second
        self._promised = max(self._promised - refill, 0.0)
        self._promised_at = now
        missing = amount + self._promised - self.level(now)
        self._promised += amount
        return max(missing, 0.0) / self.per_second

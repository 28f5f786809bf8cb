"""Byte budget of all requests together.

Charged are the bytes of a request while it arrives, is queued and can still be retried, and the
responses that are buffered until they are complete.  Nothing is charged ahead: a declared length
costs nothing until the bytes arrive.
"""

from __future__ import annotations


class ByteBudget:
    """``used`` of at most ``limit`` bytes; ``rejected`` counts the charges that did not fit."""

    __slots__ = ("limit", "rejected", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self.rejected = 0

    def take(self, count: int) -> bool:
        """Charge ``count`` bytes; False, with nothing charged, when they do not fit."""
        used = self.used + count
        if used > self.limit:
            self.rejected += 1
            return False
        self.used = used
        return True

    def fits(self, count: int) -> bool:
        """Whether ``count`` bytes fit now; False is counted in ``rejected``."""
        if self.used + count <= self.limit:
            return True
        self.rejected += 1
        return False

    def give(self, count: int) -> None:
        """Return ``count`` bytes."""
        self.used -= count

"""A bound on the bytes that all requests together make this process keep.

Charged are the bytes of a request while it arrives, waits and can still be sent again, and the
answers that are buffered until they are complete.  Nothing is reserved ahead: a client that declares
a large body and sends nothing takes nothing.
"""

from __future__ import annotations


class ByteBudget:
    """``used`` of at most ``limit`` bytes; ``refused`` counts what did not fit."""

    __slots__ = ("limit", "refused", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self.refused = 0

    def take(self, count: int) -> bool:
        """Charge ``count`` bytes; False, and nothing charged, when they do not fit."""
        used = self.used + count
        if used > self.limit:
            self.refused += 1
            return False
        self.used = used
        return True

    def fits(self, count: int) -> bool:
        """Whether so many bytes could be taken now; one that could not is counted."""
        if self.used + count <= self.limit:
            return True
        self.refused += 1
        return False

    def give(self, count: int) -> None:
        """Return bytes that were taken."""
        self.used -= count

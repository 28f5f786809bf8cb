"""When somebody else keeps changing our fields back: repair quickly a few times, then slowly."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable

FREE_REPAIRS = 5
WITHIN_SECONDS = 60.0
SLOW_SECONDS = 30.0


class ConflictBackoff:
    """Counts repairs of each object."""

    def __init__(self) -> None:
        self._repairs: dict[Hashable, deque[float]] = {}

    def pause(self, key: Hashable, now: float) -> float:
        """Seconds to wait before this repair; 0 means now, and counts it."""
        times = self._repairs.setdefault(key, deque())
        while times and now - times[0] >= WITHIN_SECONDS:
            times.popleft()
        if len(times) >= FREE_REPAIRS and now - times[-1] < SLOW_SECONDS:
            return SLOW_SECONDS - (now - times[-1])
        times.append(now)
        if len(self._repairs) > 1000:
            self._forget_idle(now)
        return 0.0

    def _forget_idle(self, now: float) -> None:
        self._repairs = {
            key: times
            for key, times in self._repairs.items()
            if times and now - times[-1] < WITHIN_SECONDS
        }

"""Backoff of repairs while another client keeps reverting the fields of a child."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable

FREE_REPAIRS = 5
WITHIN_SECONDS = 60.0
SLOW_SECONDS = 30.0


class ConflictBackoff:
    """Counts the repairs of each object: five within 60 s at once, then one every 30 s."""

    def __init__(self) -> None:
        self._repairs: dict[Hashable, deque[float]] = {}

    def pause(self, key: Hashable, now: float) -> float:
        """Seconds before the next repair; 0 means now and counts as a repair."""
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

"""Clock for durations, with conversion to the wall clock.

NTP after boot, an administrator, or a hypervisor after a migration may set the wall clock. A duration
measured with it is then negative or hours too long. :class:`AnchoredClock` reads the wall clock once and
continues with the monotonic clock. Its readings are close to Unix time, so they compare with
timestamps of other machines, and they never step.

:meth:`AnchoredClock.to_wall_clock` converts a reading for display or storage. The conversion follows
the wall clock, also after a correction of a clock that was wrong when the process started.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class AnchoredClock:
    """Seconds that never step: Unix time at construction plus monotonic progress.

    Use it for every duration: windows, rates, ages, deadlines, pauses.
    """

    def __init__(
        self,
        *,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._anchor = wall() - monotonic()

    def now(self) -> float:
        """Current reading in seconds; the difference of two readings is a duration."""
        return self._anchor + self._monotonic()

    def wall_offset(self) -> float:
        """Seconds by which the wall clock is ahead of this clock; 0 unless it was set."""
        return self._wall() - self.now()

    def to_wall_clock(self, at: float) -> float:
        """Convert the reading ``at`` to Unix seconds of the wall clock, for display and storage."""
        return at + self.wall_offset()


PROCESS_CLOCK = AnchoredClock()
"""The clock of this process. Readings are comparable only if they come from the same clock."""


def seconds_since_boot() -> float:
    """Monotonic seconds that include the time in suspend, where the system has such a clock.

    For leases, which another machine may acquire in the meantime: on Linux, ``time.monotonic`` stops
    while the machine is suspended.
    """
    boot_time = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot_time is None else time.clock_gettime(boot_time)

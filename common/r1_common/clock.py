"""One clock for durations, and what a moment of it is called on the wall clock.

The wall clock of a machine can be set: by NTP after boot, by an administrator, by a hypervisor after
a migration. A duration taken from it is then negative or hours too long. :class:`AnchoredClock` reads
the wall clock once and counts on with the monotonic clock. Its readings look like Unix time, so they
compare with timestamps of other machines as far as those can be compared at all, and they never step.

A reading that is shown to people or stored is converted with :meth:`AnchoredClock.shown`: that follows
the wall clock, also where it was wrong when the process started and was set right later.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class AnchoredClock:
    """Seconds that never step: Unix time when this clock was made, plus monotonic progress.

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
        """Seconds; the difference of two readings is the time that passed."""
        return self._anchor + self._monotonic()

    def wall_offset(self) -> float:
        """Seconds by which the wall clock is ahead of this clock now; 0 while none has set it."""
        return self._wall() - self.now()

    def shown(self, at: float) -> float:
        """The moment ``at`` of this clock in Unix seconds of the wall clock, for people and storage."""
        return at + self.wall_offset()


PROCESS_CLOCK = AnchoredClock()
"""The clock of this process: readings that are compared with each other must come from one clock."""


def seconds_since_boot() -> float:
    """A monotonic clock that counts on while the machine is suspended, where there is one (s).

    For a claim that another machine may take over meanwhile: ``time.monotonic`` stands still in a
    suspended machine on Linux.
    """
    boot_time = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot_time is None else time.clock_gettime(boot_time)

"""Is this process still doing its work? The answer behind `/healthz`.

Restarting helps against a process that hangs and against a watch that has gone silent while things
go on, both of which kopf's own probe does not see. It does not help while the API server is away,
so that is no reason to fail.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from r1_operator.kube.kinds import Kind

_MAX_REPAIRS = 2


class Liveness:
    """Notes signs of life and says what is wrong, if anything."""

    def __init__(
        self, *, silent_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._silent = silent_seconds
        self._clock = clock
        self._heartbeat_at = clock()
        self._event_at: dict[str, float] = {}
        self._repairs: dict[str, int] = {}

    def heartbeat(self) -> None:
        """A round of the main loops was done."""
        self._heartbeat_at = self._clock()

    def event_received(self, kind: Kind) -> None:
        """A watch event of this kind came in."""
        self._event_at[kind.name] = self._clock()
        self._repairs.pop(kind.name, None)

    def relist_repaired(self, kind: Kind) -> None:
        """A resync found changes that the watch of this kind had not brought."""
        self._repairs[kind.name] = self._repairs.get(kind.name, 0) + 1

    def failure(self) -> str | None:
        """One sentence if a restart would help, else None."""
        now = self._clock()
        if now - self._heartbeat_at > self._silent:
            return f"no resync was finished for {now - self._heartbeat_at:.0f} s"
        for name, repairs in self._repairs.items():
            if repairs >= _MAX_REPAIRS:
                since = now - self._event_at.get(name, 0.0)
                return f"the watch of {name} is silent: {repairs} resyncs found what it missed" + (
                    f", last event {since:.0f} s ago" if name in self._event_at else ""
                )
        return None

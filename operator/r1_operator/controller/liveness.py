"""State of the liveness probe `/healthz`.

A restart helps if the process hangs or if a watch delivers no events; the probe of kopf detects
neither. A restart does not help while the API server is unreachable, so that the probe does not fail
then.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from r1_operator.kube.kinds import Kind

_MAX_REPAIRS = 2


class Liveness:
    """Records heartbeats, watch events and relist repairs."""

    def __init__(
        self, *, silent_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._silent = silent_seconds
        self._clock = clock
        self._heartbeat_at = clock()
        self._event_at: dict[str, float] = {}
        self._repairs: dict[str, int] = {}

    def heartbeat(self) -> None:
        """Record a finished relist of all kinds."""
        self._heartbeat_at = self._clock()

    def event_received(self, kind: Kind) -> None:
        """Record a watch event of this kind."""
        self._event_at[kind.name] = self._clock()
        self._repairs.pop(kind.name, None)

    def relist_repaired(self, kind: Kind) -> None:
        """Record that a relist found changes that the watch had missed."""
        self._repairs[kind.name] = self._repairs.get(kind.name, 0) + 1

    def failure(self) -> str | None:
        """The cause if a restart would help, else None."""
        now = self._clock()
        if now - self._heartbeat_at > self._silent:
            return f"no relist finished for {now - self._heartbeat_at:.0f} s"
        for name, repairs in self._repairs.items():
            if repairs >= _MAX_REPAIRS:
                since = now - self._event_at.get(name, 0.0)
                return (
                    f"the watch of {name} delivers no events: {repairs} relists found missed changes"
                    + (f", last event {since:.0f} s ago" if name in self._event_at else "")
                )
        return None

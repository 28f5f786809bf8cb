"""Is this process still doing its work? The answer behind `/healthz`.

Restarting helps against a process that hangs and against a watch that has gone silent while things
go on, both of which kopf's own probe does not see. It does not help while the API server is away,
so that is no reason to fail.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from r1_operator.kube.kinds import Kind

_MISSES = 2


class Liveness:
    """Notes signs of life and says what is wrong, if anything."""

    def __init__(
        self, *, silent_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._silent = silent_seconds
        self._clock = clock
        self._beat_at = clock()
        self._heard_at: dict[str, float] = {}
        self._missed: dict[str, int] = {}

    def beat(self) -> None:
        """A round of the main loops was done."""
        self._beat_at = self._clock()

    def heard(self, kind: Kind) -> None:
        """A watch event of this kind came in."""
        self._heard_at[kind.name] = self._clock()
        self._missed.pop(kind.name, None)

    def missed(self, kind: Kind) -> None:
        """A resync found changes that the watch of this kind had not brought."""
        self._missed[kind.name] = self._missed.get(kind.name, 0) + 1

    def fault(self) -> str | None:
        """One sentence if a restart would help, else None."""
        now = self._clock()
        if now - self._beat_at > self._silent:
            return f"no resync was finished for {now - self._beat_at:.0f} s"
        for name, misses in self._missed.items():
            if misses >= _MISSES:
                since = now - self._heard_at.get(name, 0.0)
                return f"the watch of {name} is silent: {misses} resyncs found what it missed" + (
                    f", last event {since:.0f} s ago" if name in self._heard_at else ""
                )
        return None

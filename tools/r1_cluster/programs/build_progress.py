"""Progress of a series of builds: number, elapsed time and expected time of each.

Build times are recorded in the cache, and are the expected times of the next build on this machine.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

Report = Callable[[str], None]
REPORT_SECONDS = 15.0


def duration(seconds: float) -> str:
    """Return a duration such as `45 s` or `3 min 20 s`."""
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60} s"


def recorded_seconds(path: Path) -> dict[str, float]:
    """Return the recorded build times by name; none when the file is absent or unreadable."""
    try:
        values = json.loads(path.read_text())
        return {str(name): float(seconds) for name, seconds in values.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


class BuildProgress:
    """Reports a series of builds: at each start and end, and every 15 s between.

    Args:
        kind: what is built, such as "program".
        names: all builds of the series, in order.
        times: the file of recorded build times.
        default_seconds: expected time of a build without a record.
    """

    def __init__(
        self,
        kind: str,
        names: Sequence[str],
        times: Path,
        default_seconds: float,
        report: Report,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kind, self._names, self._times = kind, list(names), times
        self._report, self._clock = report, clock
        recorded = recorded_seconds(times)
        self.expected: Mapping[str, float] = {
            name: recorded.get(name, default_seconds) for name in names
        }
        self._began = clock()

    def line(self, name: str, elapsed: float) -> str:
        """Return the progress of the build `name`, `elapsed` seconds after its start."""
        number = self._names.index(name) + 1
        ahead = sum(self.expected[other] for other in self._names[number:])
        remaining = max(0.0, self.expected[name] - elapsed) + ahead
        total = self._clock() - self._began
        return (
            f"[{number}/{len(self._names)}] {self._kind} {name}: {duration(elapsed)} of about "
            f"{duration(self.expected[name])}; all: {duration(total)} elapsed, about "
            f"{duration(remaining)} left"
        )

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Report one build of the series, and record its time when it succeeds."""
        started = self._clock()
        self._report(self.line(name, 0.0))
        finished = threading.Event()

        def tick() -> None:
            while not finished.wait(REPORT_SECONDS):
                self._report(self.line(name, self._clock() - started))

        ticker = threading.Thread(target=tick, daemon=True)
        ticker.start()
        try:
            yield
        finally:
            finished.set()
            ticker.join()
        seconds = self._clock() - started
        number = self._names.index(name) + 1
        self._report(
            f"[{number}/{len(self._names)}] {self._kind} {name} built in {duration(seconds)}"
        )
        self._record(name, seconds)

    def _record(self, name: str, seconds: float) -> None:
        with contextlib.suppress(OSError):  # a missing record costs an estimate, not a build
            self._times.parent.mkdir(parents=True, exist_ok=True)
            values = recorded_seconds(self._times) | {name: round(seconds, 1)}
            partial = self._times.with_suffix(".partial")
            partial.write_text(json.dumps(values))
            partial.replace(self._times)

"""A keyed work queue: what has to be looked at again, and when.

The contract is that of every level-triggered controller. A key is in the queue at most once, however
often it is added. One key is never worked on twice at the same time; added while it is in work, it
comes again right after. Failures come again after a jittered, capped, exponential backoff; a success
forgets them. There are a few workers, not a task for each object.

Time is the running loop's, so that tests run it in virtual time.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from r1_operator.kube.client import KubeApiError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long a failing key waits: a random part of `base x 2^failures`, at most `cap` seconds."""

    base_seconds: float = 0.5
    cap_seconds: float = 30.0

    def delay(self, failures: int, rng: random.Random) -> float:
        """Seconds before the next try after `failures` (at least 1) failures in a row."""
        ceiling = min(self.cap_seconds, self.base_seconds * 2.0 ** min(failures, 20))
        return rng.uniform(ceiling / 2, ceiling)


K = TypeVar("K", bound=Hashable)
Work: TypeAlias = Callable[[K, float], Awaitable[float | None]]


class WorkQueue(Generic[K]):
    """Keys that wait, keys in work, and keys that are due later."""

    def __init__(self, *, backoff: Backoff | None = None, rng: random.Random | None = None) -> None:
        self._backoff = backoff or Backoff()
        self._rng = rng or random.Random()  # noqa: S311 (jitter, not a secret)
        self._ready: deque[K] = deque()
        self._added_at: dict[K, float] = {}
        self._processing: set[K] = set()
        self._readded: dict[K, float] = {}
        self._delayed: list[tuple[float, int, K]] = []
        self._due: dict[K, float] = {}
        self._serial = itertools.count()
        self._failures: dict[K, int] = {}
        self._wake = asyncio.Event()
        self._wake_timer = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def __len__(self) -> int:
        """Keys that are ready or in work (not those that are due later)."""
        return len(self._ready) + len(self._processing)

    def add(self, key: K) -> None:
        """Look at this key as soon as a worker is free."""
        now = asyncio.get_running_loop().time()
        self._due.pop(key, None)
        if key in self._processing:
            self._readded.setdefault(key, now)
        elif key not in self._added_at:
            self._added_at[key] = now
            self._ready.append(key)
            self._idle.clear()
            self._wake.set()

    def add_after(self, key: K, seconds: float) -> None:
        """Look at this key in so many seconds, or earlier if something else wants it earlier."""
        if seconds <= 0:
            return self.add(key)
        due = asyncio.get_running_loop().time() + seconds
        if key in self._added_at or key in self._readded or self._due.get(key, due + 1) <= due:
            return None
        self._due[key] = due
        heapq.heappush(self._delayed, (due, next(self._serial), key))
        self._wake_timer.set()
        return None

    def forget(self, key: K) -> None:
        """The object has gone: drop what is due later and what is remembered of its failures."""
        self._due.pop(key, None)
        self._failures.pop(key, None)

    async def wait_idle(self) -> None:
        """Return when nothing is ready or in work."""
        await self._idle.wait()

    async def run(self, workers: int, work: Work[K]) -> None:
        """Work for ever, on at most `workers` keys at a time.

        `work(key, waited)` gets the key and the seconds since it was added, and returns when the
        key should be looked at again without being asked (None: never). An exception is a failure:
        it is logged with the key, and the key comes again after the backoff.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._move_due_keys())
            for _ in range(workers):
                group.create_task(self._worker(work))

    async def _move_due_keys(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._wake_timer.clear()
            while self._delayed and self._delayed[0][0] <= loop.time():
                due, _, key = heapq.heappop(self._delayed)
                if self._due.get(key) == due:  # otherwise something newer replaced this entry
                    self.add(key)
            pause = self._delayed[0][0] - loop.time() if self._delayed else None
            try:
                async with asyncio.timeout(pause):
                    await self._wake_timer.wait()
            except TimeoutError:
                continue

    async def _worker(self, work: Work[K]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while not self._ready:
                self._wake.clear()
                await self._wake.wait()
            key = self._ready.popleft()
            added_at = self._added_at.pop(key)
            self._processing.add(key)
            try:
                requeue_after = await work(key, loop.time() - added_at)
            except Exception as error:  # noqa: BLE001 (whatever it was: later is another try)
                self._retry(key, error)
            else:
                self._failures.pop(key, None)
                if requeue_after is not None:
                    self.add_after(key, requeue_after)
            finally:
                self._finish(key)
            await asyncio.sleep(0)  # a worker that never waits for I/O would starve the watches

    def _retry(self, key: K, error: Exception) -> None:
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay = self._backoff.delay(failures, self._rng)
        expected = isinstance(error, KubeApiError)
        logger.log(
            logging.WARNING if expected else logging.ERROR,
            "%s failed (%d in a row), again in %.1f s: %s",
            key,
            failures,
            delay,
            error,
            exc_info=None if expected else error,
        )
        self.add_after(key, delay)

    def _finish(self, key: K) -> None:
        self._processing.discard(key)
        since = self._readded.pop(key, None)
        if since is not None and key not in self._added_at:
            self._due.pop(key, None)
            self._added_at[key] = since
            self._ready.append(key)
            self._wake.set()
        elif not self._ready and not self._processing:
            self._idle.set()

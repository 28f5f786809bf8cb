"""Work queue of keys, with the contract of client-go's rate-limited work queue.

A key is in the queue at most once, however often it is added. A key is never processed twice at the
same time; a key that is added while it is processed runs again afterwards. Failures are retried after a
jittered, capped, exponential backoff, which a success resets. A few workers process all keys.

Time is that of the running loop, so that tests can use virtual time.
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
    """Retry delay of a failing key: between half and all of `base x 2^failures`, at most `cap` seconds."""

    base_seconds: float = 0.5
    cap_seconds: float = 30.0

    def delay(self, failures: int, rng: random.Random) -> float:
        """Seconds before the next retry after `failures` (at least 1) failures in a row."""
        ceiling = min(self.cap_seconds, self.base_seconds * 2.0 ** min(failures, 20))
        return rng.uniform(ceiling / 2, ceiling)


K = TypeVar("K", bound=Hashable)
Work: TypeAlias = Callable[[K, float], Awaitable[float | None]]


class WorkQueue(Generic[K]):
    """Keys that are ready, keys in processing, and delayed keys."""

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
        """Number of keys that are ready or in processing, without delayed keys."""
        return len(self._ready) + len(self._processing)

    def add(self, key: K) -> None:
        """Process this key as soon as a worker is free."""
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
        """Process this key after this delay, or earlier if it is added again."""
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
        """Drop the delay and the failure count of a deleted object."""
        self._due.pop(key, None)
        self._failures.pop(key, None)

    async def wait_idle(self) -> None:
        """Wait until no key is ready or in processing."""
        await self._idle.wait()

    async def run(self, workers: int, work: Work[K]) -> None:
        """Process keys until cancelled, at most `workers` at a time.

        `work(key, waited)` gets the key and the seconds since it was added. It returns the seconds
        until the key is requeued (None: not requeued). An exception is logged, and the key is retried
        after the backoff.
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
                if self._due.get(key) == due:  # otherwise a newer entry replaced it
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
            except Exception as error:  # noqa: BLE001 (every error is retried)
                self._retry(key, error)
            else:
                self._failures.pop(key, None)
                if requeue_after is not None:
                    self.add_after(key, requeue_after)
            finally:
                self._finish(key)
            await asyncio.sleep(0)  # yields to the watches, even if the work needed no I/O

    def _retry(self, key: K, error: Exception) -> None:
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay = self._backoff.delay(failures, self._rng)
        expected = isinstance(error, KubeApiError)
        logger.log(
            logging.WARNING if expected else logging.ERROR,
            "reconcile of %s failed (%d in a row), retrying in %.1f s: %s",
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

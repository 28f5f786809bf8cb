"""Questions asked of one HTTP peer in the background, and the latest answer to each.

A decision never waits for a peer: it takes what is known and sees to it that what is due is asked.
Questions go out once a period with a tenth of jitter, one of a key at a time and few at once. A
peer that is silent says nothing new, so an answer that still is_valid outlives the silence; whatever
else comes, a refusal too, replaces it.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Generic, NamedTuple, TypeVar

import aiohttp

from r1_common.foreign_json import InvalidJson
from r1_common.http_json import read_json
from r1_operator.plan.unavailable import Unavailable

logger = logging.getLogger(__name__)

UNREACHABLE = "Unreachable"

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class CachedResponse(NamedTuple, Generic[V]):
    """An answer and when it came (on the asker's clock, s)."""

    at: float
    value: V | Unavailable


class CachedPoller(Generic[K, V]):
    """One peer's answers of type `V` by key; `who` begins the sentence that says it is silent."""

    def __init__(
        self,
        url: str,
        peer: str,
        *,
        is_valid: Callable[[V], bool],
        timeout_seconds: float = 10.0,
        max_concurrent: int = 4,
        rng: random.Random | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """`url` may be empty: then nothing is `configured` and nothing should be asked."""
        self._url = url.rstrip("/")
        self._peer = peer
        self._is_valid = is_valid
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._slots = asyncio.Semaphore(max_concurrent)
        self._rng = rng or random.Random()  # noqa: S311 (jitter, not a secret)
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None
        self._responses: dict[K, CachedResponse[V]] = {}
        self._due: dict[K, float] = {}
        self._tasks: dict[K, asyncio.Task[None]] = {}

    @property
    def configured(self) -> bool:
        """Whether there is a peer to ask."""
        return bool(self._url)

    def now(self) -> float:
        """The clock by which questions are due (s)."""
        return self._clock() if self._clock else asyncio.get_running_loop().time()

    def latest(self, key: K) -> CachedResponse[V] | None:
        """The latest answer; None before the first."""
        return self._responses.get(key)

    @property
    def keys(self) -> tuple[K, ...]:
        """What is asked about."""
        return tuple(self._due)

    def poll(
        self,
        key: K,
        request: Callable[[], Awaitable[V | Unavailable]],
        period_seconds: float,
        *,
        immediately: bool = False,
    ) -> bool:
        """Put the request in the background if it is due, or `immediately`; whether it was put.

        Nothing is put while the key's last request is under way; the next is due in `every` s.
        """
        now = self.now()
        if key in self._tasks or not (immediately or now >= self._due.get(key, -math.inf)):
            return False
        self._due[key] = now + period_seconds * self._rng.uniform(0.9, 1.1)
        task = asyncio.create_task(self._send(key, request))
        self._tasks[key] = task
        task.add_done_callback(lambda _: self._tasks.pop(key, None))
        return True

    def expire(self, key: K, within_seconds: float = 0.0) -> None:
        """The next request is due in `within` s at the latest."""
        if key in self._due:
            self._due[key] = min(self._due[key], self.now() + within_seconds)

    def forget(self, key: K) -> None:
        """Nobody asks about it any more."""
        self._responses.pop(key, None)
        self._due.pop(key, None)

    async def fetch(self, method: str, path: str, **options: Any) -> tuple[int, Any] | Unavailable:
        """Status and JSON of one request, or that the peer is silent."""
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout)
        try:
            async with self._session.request(method, f"{self._url}{path}", **options) as response:
                content_type, body = response.headers.get("Content-Type", ""), await response.read()
            return response.status, read_json(response.status, content_type, body)
        except InvalidJson as error:
            return Unavailable(UNREACHABLE, f"{self._peer} {error}.")
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            cause = str(error) or type(error).__name__
            return Unavailable(UNREACHABLE, f"{self._peer} does not answer: {cause}.")

    async def close(self) -> None:
        """Drop what is being asked and close the connections."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def _send(self, key: K, request: Callable[[], Awaitable[V | Unavailable]]) -> None:
        async with self._slots:
            try:
                value = await request()
            except Exception as error:
                logger.exception("%s: the answer about %s cannot be read", self._peer, key)
                cause = f"{type(error).__name__}: {error}"
                value = Unavailable(
                    UNREACHABLE, f"{self._peer}: the answer cannot be read: {cause}."
                )
        if key in self._due and not self._keeps_cached(self._responses.get(key), value):
            self._responses[key] = CachedResponse(self.now(), value)

    def _keeps_cached(self, cached: CachedResponse[V] | None, value: V | Unavailable) -> bool:
        """Whether silence came instead of an answer while the last one still is_valid."""
        silent = isinstance(value, Unavailable) and value.reason == UNREACHABLE
        if not silent or cached is None or isinstance(cached.value, Unavailable):
            return False
        return self._is_valid(cached.value)

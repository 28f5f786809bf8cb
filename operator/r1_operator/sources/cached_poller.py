"""Background polling of one HTTP peer, with a cache of the latest response per key.

A decision never waits for a peer: it reads the cache and triggers the requests that are due. Requests
are sent once per period with 10 % jitter, one per key at a time and a few concurrently. While the peer
is unreachable, a cached value stays as long as it is valid. Any other response, also an error status,
replaces it.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Generic, NamedTuple, TypeVar

import aiohttp

from r1_common.contracts.unavailable import Unavailable
from r1_common.http_json import read_json
from r1_common.untrusted_json import InvalidJson

logger = logging.getLogger(__name__)

UNREACHABLE = "Unreachable"

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class CachedResponse(NamedTuple, Generic[V]):
    """A cached value and the time of its arrival (s, on the clock of the poller)."""

    at: float
    value: V | Unavailable


class CachedPoller(Generic[K, V]):
    """Polls one peer and caches values of type `V` by key; `peer` names it in messages."""

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
        """With an empty `url` the poller is not `configured` and must not be polled."""
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
        """Whether a peer is configured."""
        return bool(self._url)

    def now(self) -> float:
        """The time on the clock of the poller (s)."""
        return self._clock() if self._clock else asyncio.get_running_loop().time()

    def latest(self, key: K) -> CachedResponse[V] | None:
        """The latest response; None before the first."""
        return self._responses.get(key)

    @property
    def keys(self) -> tuple[K, ...]:
        """The polled keys."""
        return tuple(self._due)

    def poll(
        self,
        key: K,
        request: Callable[[], Awaitable[V | Unavailable]],
        period_seconds: float,
        *,
        immediately: bool = False,
    ) -> bool:
        """Send the request in the background if it is due or `immediately`; whether it was sent.

        A key has one request at a time; the next one is due after `period_seconds`.
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
        """Make the next request due within `within_seconds`."""
        if key in self._due:
            self._due[key] = min(self._due[key], self.now() + within_seconds)

    def forget(self, key: K) -> None:
        """Stop polling a key and drop its cached response."""
        self._responses.pop(key, None)
        self._due.pop(key, None)

    async def fetch(self, method: str, path: str, **options: Any) -> tuple[int, Any] | Unavailable:
        """Status and JSON of one request, or Unavailable if the peer does not respond."""
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
        """Cancel the requests and close the connections."""
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
                logger.exception("%s: the response for %s cannot be read", self._peer, key)
                cause = f"{type(error).__name__}: {error}"
                value = Unavailable(
                    UNREACHABLE, f"{self._peer}: the response cannot be read: {cause}."
                )
        if key in self._due and not self._keeps_cached(self._responses.get(key), value):
            self._responses[key] = CachedResponse(self.now(), value)

    def _keeps_cached(self, cached: CachedResponse[V] | None, value: V | Unavailable) -> bool:
        """Whether the peer was unreachable while the cached value is still valid."""
        unreachable = isinstance(value, Unavailable) and value.reason == UNREACHABLE
        if not unreachable or cached is None or isinstance(cached.value, Unavailable):
            return False
        return self._is_valid(cached.value)

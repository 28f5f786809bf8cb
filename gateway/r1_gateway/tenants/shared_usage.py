"""Charges of tenants, shared by several gateways and stored over restarts in Redis.

Each tenant has a Redis hash for each counter; each gateway process writes its own running total to its
own field and reads the other fields.  So a repeated write changes nothing, and no charge is lost or
counted twice.  Four times a second the gateway writes and reads the counters of the tenants with
recent requests::

    r1:usage:search:requests            {"<process>": 1200, ...}     since the process started
    r1:usage:search:tokens              {"<process>": 480000, ...}
    r1:usage:search:day:2026-11-30      {"<process>": 480000, ...}   expires a day after its end
    r1:usage:search:month:2026-11       {"<process>": 480000, ...}

A request never waits for Redis.  While Redis does not respond, each gateway applies the limits to its
own charges and the last known ones of the others, and writes its totals when Redis responds again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from r1_gateway.tenants.tenant_limiter import DAY_SECONDS, Account, TenantLimiter

logger = logging.getLogger(__name__)

PREFIX = "r1:usage"
SYNC_SECONDS = 0.25
TIMEOUT_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 5.0
ACTIVE_SECONDS = 120.0
"""A tenant without a request for this long is not synchronized: its buckets are full."""
MINUTE_KEYS_SECONDS = 3600
"""Life of the counters of the limits per minute after the last write."""


class UsageStore(Protocol):
    """Hashes of numbers."""

    async def exchange(
        self, process: str, totals: Mapping[str, tuple[float, float]]
    ) -> dict[str, float]:
        """Write this process's total of each key (total, expiry in unix seconds).

        Returns the sum of the other processes' totals by key.

        Raises:
            OSError: the store does not respond.
        """

    async def close(self) -> None:
        """Close the connections."""


class RedisStore:
    """Hashes in a Redis server."""

    def __init__(self, url: str) -> None:
        """``redis://[user:password@]host:port/db``, or ``rediss://`` for TLS.

        Raises:
            ValueError: not such a URL.
        """
        import redis.asyncio  # 0.2 s, and only gateways with --redis need it

        self._client: Any = redis.asyncio.from_url(
            url,
            decode_responses=True,
            socket_timeout=TIMEOUT_SECONDS,
            socket_connect_timeout=TIMEOUT_SECONDS,
        )
        self._error: type[Exception] = redis.RedisError

    async def exchange(
        self, process: str, totals: Mapping[str, tuple[float, float]]
    ) -> dict[str, float]:
        """Write and read all keys in one round trip."""
        pipeline = self._client.pipeline(transaction=False)
        for key, (total, expires_at) in totals.items():
            pipeline.hset(key, process, repr(total))
            pipeline.expireat(key, int(expires_at))
            pipeline.hgetall(key)
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                replies = await pipeline.execute()
            return {
                key: sum(float(value) for name, value in fields.items() if name != process)
                for key, fields in zip(totals, replies[2::3], strict=True)
            }
        except (self._error, TimeoutError, ValueError) as error:
            raise OSError(str(error) or type(error).__name__) from None

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


class SharedUsage:
    """Keeps a limiter's accounts and a store equal."""

    def __init__(
        self,
        limiter: TenantLimiter,
        store: UsageStore,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.errors = 0
        """Failed synchronizations since the start."""
        self.reachable = True
        self._limiter = limiter
        self._store = store
        self._clock = clock
        self._wall_clock = wall_clock
        self._sleep = sleep
        self._process = os.urandom(8).hex()
        limiter.shared = True

    async def run(self) -> None:
        """Synchronize without end."""
        pause = SYNC_SECONDS
        while True:
            await self._sleep(pause)
            pause = (
                SYNC_SECONDS
                if await self.synchronize()
                else min(2.0 * pause, LONGEST_PAUSE_SECONDS)
            )

    async def synchronize(self) -> bool:
        """Write the totals of this gateway and apply those of the others; False when it failed."""
        now, at = self._clock(), self._wall_clock()
        targets: dict[str, tuple[Account, str]] = {}
        totals: dict[str, tuple[float, float]] = {}
        for account in self._limiter.accounts.values():
            if now - account.used_at > ACTIVE_SECONDS:
                continue
            for name, total, ends in account.totals():
                key = f"{PREFIX}:{account.tenant}:{name}"
                targets[key] = (account, name)
                expires = at + MINUTE_KEYS_SECONDS if ends is None else ends + DAY_SECONDS
                totals[key] = (total, expires)
        if not totals:
            return True
        try:
            others = await self._store.exchange(self._process, totals)
        except OSError as error:
            self.errors += 1
            if self.reachable:
                logger.warning(
                    "Redis does not respond: %s; the limits of tenants count this gateway's requests "
                    "and the last known ones of the others",
                    error,
                )
            self.reachable = False
            return False
        if not self.reachable:
            logger.warning("Redis responds again")
        self.reachable = True
        for key, total in others.items():
            account, name = targets[key]
            account.apply_others(name, total, self._clock())
        return True

    async def close(self) -> None:
        """Write the last totals and close the connections."""
        await self.synchronize()
        await self._store.close()

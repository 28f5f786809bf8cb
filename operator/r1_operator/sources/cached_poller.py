"""Questions asked of one HTTP peer in the background, and the latest answer to each.

A decision never waits for a peer: it takes what is known and sees to it that what is due is asked.
Questions go out once a period with a tenth of jitter, one of a key at a time and few at once. A
peer that is silent says nothing new, so an answer that still holds outlives the silence; whatever
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

from r1_common.http_json import read_json
from r1_common.untrusted_json import InvalidJson
from r1_operator.plan.unavailable import Unavailable

logger = logging.getLogger(__name__)

UNREACHABLE = "Unreachable"

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class CachedAnswer(NamedTuple, Generic[V]):
    """An answer and when it came (on the asker's clock, s)."""

    at: float
    answer: V | Unavailable


class CachedPoller(Generic[K, V]):
    """One peer's answers of type `V` by key; `who` begins the sentence that says it is silent."""

    def __init__(
        self,
        url: str,
        who: str,
        *,
        holds: Callable[[V], bool],
        timeout_seconds: float = 10.0,
        max_concurrent: int = 4,
        rng: random.Random | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """`url` may be empty: then nothing is `configured` and nothing should be asked."""
        self._url = url.rstrip("/")
        self._who = who
        self._holds = holds
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._slots = asyncio.Semaphore(max_concurrent)
        self._rng = rng or random.Random()  # noqa: S311 (jitter, not a secret)
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None
        self._known: dict[K, CachedAnswer[V]] = {}
        self._due: dict[K, float] = {}
        self._tasks: dict[K, asyncio.Task[None]] = {}

    @property
    def configured(self) -> bool:
        """Whether there is a peer to ask."""
        return bool(self._url)

    def now(self) -> float:
        """The clock by which questions are due (s)."""
        return self._clock() if self._clock else asyncio.get_running_loop().time()

    def known(self, key: K) -> CachedAnswer[V] | None:
        """The latest answer; None before the first."""
        return self._known.get(key)

    @property
    def asked(self) -> tuple[K, ...]:
        """What is asked about."""
        return tuple(self._due)

    def ask(
        self,
        key: K,
        question: Callable[[], Awaitable[V | Unavailable]],
        every: float,
        *,
        at_once: bool = False,
    ) -> bool:
        """Put the question in the background if it is due, or `at_once`; whether it was put.

        Nothing is put while the key's last question is under way; the next is due in `every` s.
        """
        now = self.now()
        if key in self._tasks or not (at_once or now >= self._due.get(key, -math.inf)):
            return False
        self._due[key] = now + every * self._rng.uniform(0.9, 1.1)
        task = asyncio.create_task(self._put(key, question))
        self._tasks[key] = task
        task.add_done_callback(lambda _: self._tasks.pop(key, None))
        return True

    def expire(self, key: K, within: float = 0.0) -> None:
        """The next question is due in `within` s at the latest."""
        if key in self._due:
            self._due[key] = min(self._due[key], self.now() + within)

    def forget(self, key: K) -> None:
        """Nobody asks about it any more."""
        self._known.pop(key, None)
        self._due.pop(key, None)

    async def fetch(self, method: str, path: str, **options: Any) -> tuple[int, Any] | Unavailable:
        """Status and JSON of one request, or that the peer is silent."""
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout)
        try:
            async with self._session.request(method, f"{self._url}{path}", **options) as response:
                kind, body = response.headers.get("Content-Type", ""), await response.read()
            return response.status, read_json(response.status, kind, body)
        except InvalidJson as error:
            return Unavailable(UNREACHABLE, f"{self._who} {error}.")
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            what = str(error) or type(error).__name__
            return Unavailable(UNREACHABLE, f"{self._who} does not answer: {what}.")

    async def close(self) -> None:
        """Drop what is being asked and close the connections."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def _put(self, key: K, question: Callable[[], Awaitable[V | Unavailable]]) -> None:
        async with self._slots:
            try:
                answer = await question()
            except Exception as error:
                logger.exception("%s: the answer about %s cannot be read", self._who, key)
                what = f"{type(error).__name__}: {error}"
                answer = Unavailable(
                    UNREACHABLE, f"{self._who}: the answer cannot be read: {what}."
                )
        if key in self._due and not self._outlives(self._known.get(key), answer):
            self._known[key] = CachedAnswer(self.now(), answer)

    def _outlives(self, known: CachedAnswer[V] | None, answer: V | Unavailable) -> bool:
        """Whether silence came instead of an answer while the last one still holds."""
        silent = isinstance(answer, Unavailable) and answer.reason == UNREACHABLE
        if not silent or known is None or isinstance(known.answer, Unavailable):
            return False
        return self._holds(known.answer)

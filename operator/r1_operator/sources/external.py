"""External metrics: any PromQL, asked of Prometheus in the background.

A decision never waits for Prometheus: it takes the latest value there is. A value that is too old,
not there, not one or no number is `Unavailable` with a reason, and the count is then held.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Iterable

import aiohttp

from r1_operator.kube.kinds import Key
from r1_operator.plan.unavailable import Unavailable

EVERY_SECONDS = 15.0
STALE_SECONDS = 60.0

NOT_CONFIGURED = Unavailable(
    "NoPrometheus", "External metrics need Prometheus: set R1_PROMETHEUS_URL of the operator."
)
PENDING = Unavailable("Pending", "Prometheus has not answered yet.")

_Asked = tuple[Key, str]


class ExternalMetrics:
    """The latest value of every query that somebody asks about."""

    def __init__(
        self,
        url: str,
        *,
        timeout_seconds: float = 10.0,
        max_concurrent: int = 4,
        rng: random.Random | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """`url` may be empty: then every value is `NOT_CONFIGURED`."""
        self._url = url.rstrip("/")
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._slots = asyncio.Semaphore(max_concurrent)
        self._rng = rng or random.Random()  # noqa: S311 (jitter, not a secret)
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None
        self._latest: dict[_Asked, tuple[float, float | Unavailable]] = {}
        self._due: dict[_Asked, float] = {}
        self._tasks: dict[_Asked, asyncio.Task[None]] = {}

    async def close(self) -> None:
        """Drop what is being asked and close the connections."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    def latest(self, key: Key, query: str) -> float | Unavailable:
        """The latest value, at once; asks again in the background when that is due."""
        if not self._url:
            return NOT_CONFIGURED
        now, asked = self._time(), (key, query)
        if asked not in self._tasks and now >= self._due.get(asked, -math.inf):
            self._due[asked] = now + EVERY_SECONDS * self._rng.uniform(0.9, 1.1)
            task = asyncio.create_task(self._ask(asked))
            self._tasks[asked] = task
            task.add_done_callback(lambda _: self._tasks.pop(asked, None))
        at, value = self._latest.get(asked, (now, PENDING))
        if now - at > STALE_SECONDS:
            return Unavailable("StaleMetric", f"Prometheus has not answered for {now - at:.0f} s.")
        return value

    def keep(self, key: Key, queries: Iterable[str]) -> None:
        """Forget every query of the resource but these."""
        wanted = {(key, query) for query in queries}
        for asked in [one for one in self._due if one[0] == key and one not in wanted]:
            del self._due[asked]
            self._latest.pop(asked, None)

    def _time(self) -> float:
        return self._clock() if self._clock else asyncio.get_running_loop().time()

    async def _ask(self, asked: _Asked) -> None:
        async with self._slots:
            value = await self._get(asked[1])
        known = self._latest.get(asked)
        # A silent Prometheus says nothing new: the last value stands until it is too old.
        if isinstance(value, Unavailable) and value.reason == UNREACHABLE and known is not None:
            return
        if asked in self._due:
            self._latest[asked] = (self._time(), value)

    async def _get(self, query: str) -> float | Unavailable:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout)
        try:
            async with self._session.get(
                f"{self._url}/api/v1/query", params={"query": query}
            ) as response:
                answer = await response.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            what = str(error) or type(error).__name__
            return Unavailable(UNREACHABLE, f"Prometheus does not answer: {what}.")
        return read_value(answer)


UNREACHABLE = "Unreachable"


def read_value(answer: object) -> float | Unavailable:
    """The one value of an instant query's answer."""
    try:
        if not isinstance(answer, dict) or answer["status"] != "success":
            said = answer.get("error") if isinstance(answer, dict) else answer
            return Unavailable("Refused", f"Prometheus refused the query: {str(said)[:300]}")
        kind, result = answer["data"]["resultType"], answer["data"]["result"]
        if kind == "scalar":
            value = float(result[1])
        elif kind != "vector":
            return Unavailable("NotOneValue", f"The query gives a {kind}; one value is needed.")
        elif not result:
            return Unavailable("NoData", "The query finds no series.")
        elif len(result) > 1:
            return Unavailable(
                "NotOneValue", f"The query gives {len(result)} series; wrap it in sum() or max()."
            )
        else:
            value = float(result[0]["value"][1])
    except (KeyError, IndexError, TypeError, ValueError) as error:
        return Unavailable("Invalid", f"Prometheus' answer does not parse: {error!r}.")
    if not math.isfinite(value):
        return Unavailable("NotANumber", f"The query gives {value}.")
    return value

"""Client side of the forecaster benchmark: requests, their times and their shards."""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from r1_bench.forecaster.backfill import STEP

DAY = 86_400
HISTORY = 14 * DAY
AT_ONCE = 4
"""Concurrent requests of an operator."""
NO_FORECAST_YET = ("Training", "Unreachable")
"""Repeated: the history is being read, or the shard that reads it was too busy to respond."""
NO_FORECAST = (*NO_FORECAST_YET, "NoData")
"""`NoData`: the recording has a gap at this time."""


@dataclass(frozen=True, slots=True)
class TimedResponse:
    """Response to one request: number of the series and of the shard (from 0), latency, reason."""

    series_number: int
    shard: int
    seconds: float
    reason: str


@dataclass(slots=True)
class ForecasterClients:
    """HTTP clients of all shards of a release.

    A request without a shard number goes to the next shard, as through a Service.
    """

    sessions: Sequence[aiohttp.ClientSession]
    _turns: Iterator[int] = field(default_factory=itertools.count)

    async def query(self, series_number: int, shard: int | None = None) -> TimedResponse:
        """Request a forecast; raises RuntimeError for a reason that no repetition ends."""
        at = next(self._turns) % len(self.sessions) if shard is None else shard
        began = time.perf_counter()
        async with self.sessions[at].post(
            "/v1/forecast", json=request_body(series_number)
        ) as response:
            forecast: dict[str, Any] = await response.json()
        seconds = time.perf_counter() - began
        if forecast["state"] != "Ready" and forecast["reason"] not in NO_FORECAST:
            raise RuntimeError(
                f"series {series_number}: {forecast['reason']}: {forecast['message']}"
            )
        return TimedResponse(series_number, at, seconds, str(forecast["reason"]))


def series_name_of(series_number: int) -> str:
    """Return the operator's name of a series."""
    return f"team/model-{series_number}"


def request_body(series_number: int) -> dict[str, Any]:
    """Return the operator's request for one series."""
    return {
        "series": series_name_of(series_number),
        "query": f'recorded{{series="{series_number}"}}',
        "stepSeconds": STEP,
        "seasonSeconds": DAY,
        "historySeconds": HISTORY,
        "leadSeconds": 75,
        "horizonSeconds": 600,
        "levels": [0.5, 0.9, 0.95],
    }


async def first_forecasts(clients: ForecasterClients, count: int) -> list[TimedResponse]:
    """Request each series, `AT_ONCE` at a time, until it has a forecast; return all responses.

    A series whose recording has a gap at this time has `NoData` instead; its history is read too.
    """
    waiting, responses = deque(range(count)), []

    async def request_all() -> None:
        while waiting:
            responses.append(await clients.query(waiting.popleft()))
            if responses[-1].reason in NO_FORECAST_YET:
                waiting.append(responses[-1].series_number)
            elif len(waiting) % 100 == 0:
                print(f"{len(waiting):,} series have no forecast yet", file=sys.stderr, flush=True)

    await asyncio.gather(*(request_all() for _ in range(AT_ONCE)))
    return responses


async def minutes_of_requests(
    clients: ForecasterClients, count: int, minutes: float
) -> list[TimedResponse]:
    """Request each series once a minute, evenly spread; return the responses."""
    responses: list[TimedResponse] = []
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(number: int, began: float) -> None:
        await asyncio.sleep(max(began + number * 60 / count - time.monotonic(), 0))
        async with slots:
            responses.append(await clients.query(number % count))

    began = time.monotonic()
    await asyncio.gather(*(one(number, began) for number in range(round(minutes * count))))
    return responses


def quantile(responses: Sequence[TimedResponse], level: float) -> float:
    """Return the quantile of the latencies in ms; NaN without responses."""
    took = sorted(1000 * each.seconds for each in responses)
    return took[min(int(level * len(took)), len(took) - 1)] if took else float("nan")

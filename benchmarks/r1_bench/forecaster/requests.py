"""The operator's side of the forecaster benchmark: requests, their times and their shards."""

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
"""Questions that an operator has under way."""
NO_FORECAST_YET = ("Training", "Unreachable")
"""Asked again: the history is being read, or the shard that reads it was too busy to say so."""
NO_FORECAST = (*NO_FORECAST_YET, "NoData")
"""The last where a recording has a gap just now."""


@dataclass(frozen=True, slots=True)
class QueryResult:
    """One question: of which subject, at which door (counted from 0), and how it went."""

    subject: int
    door: int
    seconds: float
    reason: str


@dataclass(slots=True)
class Doors:
    """All doors of a release; without another word each question goes to the next, as a Service
    spreads them."""

    sessions: Sequence[aiohttp.ClientSession]
    _turns: Iterator[int] = field(default_factory=itertools.count)

    async def ask(self, subject: int, door: int | None = None) -> QueryResult:
        """Ask about a subject; raises RuntimeError where that can come to nothing."""
        at = next(self._turns) % len(self.sessions) if door is None else door
        began = time.perf_counter()
        async with self.sessions[at].post("/v1/forecast", json=question(subject)) as reply:
            answer: dict[str, Any] = await reply.json()
        seconds = time.perf_counter() - began
        if answer["state"] != "Ready" and answer["reason"] not in NO_FORECAST:
            raise RuntimeError(f"subject {subject}: {answer['reason']}: {answer['message']}")
        return QueryResult(subject, at, seconds, str(answer["reason"]))


def subject_name(subject: int) -> str:
    """What the operator calls it."""
    return f"team/model-{subject}"


def question(subject: int) -> dict[str, Any]:
    """What the operator asks about one subject."""
    return {
        "series": subject_name(subject),
        "query": f'recorded{{subject="{subject}"}}',
        "stepSeconds": STEP,
        "seasonSeconds": DAY,
        "historySeconds": HISTORY,
        "leadSeconds": 75,
        "horizonSeconds": 600,
        "levels": [0.5, 0.9, 0.95],
    }


async def first_answers(doors: Doors, count: int) -> list[QueryResult]:
    """Ask in turn, `AT_ONCE` at a time, until each subject has had a forecast; all that was asked.

    One whose recording has a gap just now has `NoData` instead, which takes its history as well.
    """
    waiting, asked = deque(range(count)), []

    async def look() -> None:
        while waiting:
            asked.append(await doors.ask(waiting.popleft()))
            if asked[-1].reason in NO_FORECAST_YET:
                waiting.append(asked[-1].subject)
            elif len(waiting) % 100 == 0:
                print(f"{len(waiting):,} wait for an answer", file=sys.stderr, flush=True)

    await asyncio.gather(*(look() for _ in range(AT_ONCE)))
    return asked


async def minutes_of_answers(doors: Doors, count: int, minutes: float) -> list[QueryResult]:
    """Each subject asked once a minute, evenly spread."""
    asked: list[QueryResult] = []
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(number: int, began: float) -> None:
        await asyncio.sleep(max(began + number * 60 / count - time.monotonic(), 0))
        async with slots:
            asked.append(await doors.ask(number % count))

    began = time.monotonic()
    await asyncio.gather(*(one(number, began) for number in range(round(minutes * count))))
    return asked


def quantile(asked: Sequence[QueryResult], level: float) -> float:
    """Latency (ms) that the share ``level`` of the questions kept within; NaN without any."""
    took = sorted(1000 * each.seconds for each in asked)
    return took[min(int(level * len(took)), len(took) - 1)] if took else float("nan")

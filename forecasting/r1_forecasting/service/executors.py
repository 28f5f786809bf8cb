"""Thread pools of the service and the limit on concurrent first forecasts.

After a restart a thousand series are requested at once, and each first forecast reads a whole
history and runs a backtest. At most `MAX_FIRST_FORECASTS` of them run at a time, in order of
arrival, so that threads stay free for series with a forecast. Work that no response waits for (a
repeated backtest, a backfill) shares one thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import ParamSpec, TypeVar

MAX_FIRST_FORECASTS = 4
READ_THREADS = 8

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(slots=True)
class Executors:
    """Thread pools shared by all series of a service."""

    first_forecasts: asyncio.Semaphore = field(
        default_factory=lambda: asyncio.Semaphore(MAX_FIRST_FORECASTS)
    )
    _reading: Executor = field(default_factory=lambda: ThreadPoolExecutor(READ_THREADS, "read"))
    _background: Executor = field(default_factory=lambda: ThreadPoolExecutor(1, "background"))

    async def read(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run work that a response waits for: a read or a first backtest."""
        return await _run(self._reading, work, *args, **kwargs)

    async def background(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run work that no response waits for, in order of arrival."""
        return await _run(self._background, work, *args, **kwargs)


async def _run(executor: Executor, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    return await asyncio.get_running_loop().run_in_executor(executor, lambda: work(*args, **kwargs))

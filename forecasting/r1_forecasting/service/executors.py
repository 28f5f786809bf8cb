"""Who waits for whom: the threads of the service, so that a herd of newcomers stops nobody.

After a restart a thousand subjects ask at once, and each one's first answer takes a history and a
backtest. Newcomers therefore go a few at a time and in turn, while what is already known is read
on in threads that they leave free. What no answer waits for (a backtest made anew, a look at the
past) has one thread for all: subjects that came together want these together too.
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
    """Shared by all subjects of a service."""

    first_forecasts: asyncio.Semaphore = field(
        default_factory=lambda: asyncio.Semaphore(MAX_FIRST_FORECASTS)
    )
    _reading: Executor = field(default_factory=lambda: ThreadPoolExecutor(READ_THREADS, "read"))
    _background: Executor = field(default_factory=lambda: ThreadPoolExecutor(1, "behind"))

    async def read(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run what an answer waits for: a read, or a newcomer's first backtest."""
        return await _run(self._reading, work, *args, **kwargs)

    async def background(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run what no answer waits for, after what came before."""
        return await _run(self._background, work, *args, **kwargs)


async def _run(executor: Executor, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    return await asyncio.get_running_loop().run_in_executor(executor, lambda: work(*args, **kwargs))

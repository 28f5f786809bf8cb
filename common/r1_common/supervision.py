"""Supervision of background tasks: a task that ends is logged and restarted.

A task that raises or returns is logged with its traceback and restarted after an exponential backoff.
:meth:`Supervisor.failing` reports it until it has run for ``STABLE_SECONDS`` without a failure.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

logger = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 30.0
STABLE_SECONDS = 60.0


@dataclass(slots=True)
class TaskState:
    """A supervised task: number of restarts and cause of the last one."""

    name: str
    restarts: int = 0
    last_error: str | None = None
    failed_at: float | None = None
    """Monotonic time of the last failure; None while none is recent."""


class Supervisor:
    """Runs named background tasks and restarts them until :meth:`stop`."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._states: dict[str, TaskState] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    @property
    def states(self) -> tuple[TaskState, ...]:
        """All supervised tasks."""
        return tuple(self._states.values())

    def start(self, name: str, run: Callable[[], Awaitable[object]]) -> None:
        """Run ``run()`` under that name and restart it when it ends.

        Raises:
            ValueError: a task of that name runs already.
        """
        if name in self._tasks:
            raise ValueError(f"the background task {name!r} runs already")
        state = self._states[name] = TaskState(name)
        self._tasks[name] = asyncio.create_task(self._supervise(state, run), name=name)

    def failing(self) -> list[str]:
        """One line per task that failed within the last ``STABLE_SECONDS``."""
        oldest = self._monotonic() - STABLE_SECONDS
        return [
            f"background task {state.name!r} failed {state.restarts} times: {state.last_error}"
            for state in self._states.values()
            if state.failed_at is not None and state.failed_at > oldest
        ]

    async def stop(self) -> None:
        """Cancel every task and wait until all have ended."""
        tasks, self._tasks = list(self._tasks.values()), {}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _supervise(self, state: TaskState, run: Callable[[], Awaitable[object]]) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            started = self._monotonic()
            try:
                await run()
                state.last_error = "the task ended without an error"
                logger.error(
                    "Background task %r ended without an error; restarting it in %.2f s",
                    state.name,
                    pause,
                )
            except Exception as error:
                state.last_error = f"{type(error).__name__}: {error}"
                logger.exception(
                    "Background task %r failed; restarting it in %.2f s", state.name, pause
                )
            now = self._monotonic()
            if now - started >= STABLE_SECONDS:
                pause = FIRST_PAUSE_SECONDS
            state.restarts += 1
            state.failed_at = now
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

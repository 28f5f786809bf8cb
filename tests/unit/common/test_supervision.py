"""A background task that ends is logged, restarted and reported."""

from __future__ import annotations

import asyncio
import logging

import pytest

from r1_common.supervision import STABLE_SECONDS, Supervisor


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def test_failed_task_is_logged_restarted_and_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    supervisor = Supervisor()
    started = 0
    running = asyncio.Event()

    async def fails_once() -> None:
        nonlocal started
        started += 1
        if started == 1:
            raise RecursionError("too deep")
        running.set()
        await asyncio.Event().wait()

    supervisor.start("discovery", fails_once)
    with caplog.at_level(logging.ERROR):
        await asyncio.wait_for(running.wait(), 10)
    assert started == 2
    assert "'discovery' failed" in caplog.text
    assert "Traceback" in caplog.text
    assert supervisor.failing() == [
        "background task 'discovery' failed 1 times: RecursionError: too deep"
    ]
    await supervisor.stop()


async def test_task_that_returns_is_restarted() -> None:
    supervisor = Supervisor()
    started = 0
    twice = asyncio.Event()

    async def returns() -> None:
        nonlocal started
        started += 1
        if started == 2:
            twice.set()

    supervisor.start("sweep", returns)
    await asyncio.wait_for(twice.wait(), 10)
    assert "ended without an error" in supervisor.failing()[0]
    await supervisor.stop()


async def test_failure_is_cleared_after_a_stable_minute() -> None:
    clock = Clock()
    supervisor = Supervisor(monotonic=clock)
    running = asyncio.Event()

    async def fails_once() -> None:
        if not supervisor.failing():
            raise OSError("away")
        running.set()
        await asyncio.Event().wait()

    supervisor.start("watch", fails_once)
    await asyncio.wait_for(running.wait(), 10)
    clock.now += STABLE_SECONDS + 1
    assert supervisor.failing() == []
    await supervisor.stop()


async def test_stop_ends_every_task_and_names_are_unique() -> None:
    supervisor = Supervisor()
    supervisor.start("a", asyncio.Event().wait)
    with pytest.raises(ValueError, match="'a' runs already"):
        supervisor.start("a", asyncio.Event().wait)
    await supervisor.stop()
    supervisor.start("a", asyncio.Event().wait)
    await supervisor.stop()

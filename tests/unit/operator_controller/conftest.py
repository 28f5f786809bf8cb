"""Virtual time for the controller's tests leaves nothing behind."""

import asyncio
import inspect
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def no_stray_loop(request: pytest.FixtureRequest) -> Iterator[None]:
    """Close the event loop that looptime makes around a test that is not async."""
    yield
    if not inspect.iscoroutinefunction(request.function):
        policy = asyncio.get_event_loop_policy()
        stray = getattr(getattr(policy, "_local", None), "_loop", None)
        if stray is not None and not stray.is_running() and not stray.is_closed():
            stray.close()
            policy.set_event_loop(None)

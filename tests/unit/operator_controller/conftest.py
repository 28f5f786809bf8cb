"""Virtual time for the controller's tests leaves nothing behind.

looptime asks for an event loop around every test, also one that is not async, where asyncio then
makes one that nobody closes.
"""

import asyncio
from collections.abc import Generator

import pytest


def close_stray_loop() -> None:
    """Close the thread's event loop if it is not running."""
    policy = asyncio.get_event_loop_policy()
    stray = getattr(getattr(policy, "_local", None), "_loop", None)
    if stray is not None and not stray.is_running() and not stray.is_closed():
        stray.close()
        policy.set_event_loop(None)


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Runs right around the test's own function, inside looptime's."""
    synchronous = pyfuncitem.get_closest_marker("asyncio") is None
    if synchronous:
        close_stray_loop()
    try:
        return (yield)
    finally:
        if synchronous:
            close_stray_loop()

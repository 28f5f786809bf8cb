"""An event loop for the parts of the session that have none.

pytest-asyncio asks for "the current loop" around every test and so creates one that nobody
closes; collected late, it fails a session whose warnings are errors.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def _session_loop() -> Iterator[None]:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()

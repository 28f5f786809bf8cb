"""Wait for a condition by polling, with a timeout."""

from __future__ import annotations

import time
from collections.abc import Callable

from r1_cluster.errors import NotReady


def wait_until(
    condition: Callable[[], bool],
    what: Callable[[], str],
    seconds: float,
    interval: float = 0.1,
) -> None:
    """Return once `condition()` is true. Raises NotReady with `what()` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise NotReady(what())
        time.sleep(interval)

"""Capacity of one replica on this machine, measured before the run."""

from __future__ import annotations

import asyncio
import time

import aiohttp

from r1_demo.load.arrivals import Caps, ScheduledRequest
from r1_demo.load.load_generator import RequestOutcome, send

CAPACITY_SHARE = 0.28
"""Share of the measured maximum that is declared as a replica's capacity.

Ten replicas at the target utilisation then use about as much CPU as two at their maximum, so that
the whole range from 2 to 10 replicas fits on a small machine.
"""


class CalibrationFailed(RuntimeError):
    """No request completed during the calibration; the message holds the last error."""


async def _saturate(
    url: str, model: str, seats: int, seconds: float, caps: Caps
) -> tuple[list[RequestOutcome], float]:
    """Keep `seats` requests in flight for some seconds: a closed loop, which finds the maximum."""
    ends = time.monotonic() + seconds
    outcomes: list[RequestOutcome] = []
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(
        connector=connector, timeout=aiohttp.ClientTimeout(total=60)
    ) as session:

        async def client(number: int) -> None:
            count = 0
            while time.monotonic() < ends:
                arrival = ScheduledRequest(
                    number + count, model, None, caps.prompt_tokens // 2, caps.output_tokens
                )
                outcomes.append(await send(session, url, arrival, time.monotonic()))
                count += 1

        began = time.monotonic()
        await asyncio.gather(*(client(number) for number in range(seats)))
    return outcomes, time.monotonic() - began


def measure_capacity(url: str, model: str, seats: int, seconds: float, caps: Caps) -> float:
    """Return the capacity to declare for one replica of `model`, in requests/s.

    Raises CalibrationFailed when no request completed.
    """
    asyncio.run(_saturate(url, model, seats, 1.0, caps))  # warm-up: fills caches
    outcomes, took = asyncio.run(_saturate(url, model, seats, seconds, caps))
    completed = sum(outcome.completed for outcome in outcomes)
    if not completed:
        cause = outcomes[-1].error if outcomes else "no request was sent"
        raise CalibrationFailed(
            f"Calibration failed: {model} completed 0 of {len(outcomes)} requests. "
            f"Last error: {cause}"
        )
    return CAPACITY_SHARE * completed / took

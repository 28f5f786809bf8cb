"""How much one replica takes here: measured, because machines differ by more than a factor."""

from __future__ import annotations

import asyncio
import time

import aiohttp

from r1_demo.arrivals import Caps, ScheduledRequest
from r1_demo.load_generator import RequestOutcome, send

CAPACITY_SHARE = 0.7
"""Share of the measured maximum that is called a replica's capacity: at the maximum queues grow."""


class CalibrationFailed(RuntimeError):
    """Not one request was answered during the calibration; the message holds the last error."""


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
    """Return the requests per second one replica of `model` takes, with room to breathe.

    Raises NoCapacity when nothing was answered.
    """
    asyncio.run(_saturate(url, model, seats, 1.0, caps))  # the first tokens warm the caches
    outcomes, took = asyncio.run(_saturate(url, model, seats, seconds, caps))
    completed = sum(outcome.completed for outcome in outcomes)
    if not completed:
        said = outcomes[-1].error if outcomes else "nothing was sent"
        raise CalibrationFailed(f"{model} answered none of {len(outcomes)} requests: {said}")
    return CAPACITY_SHARE * completed / took

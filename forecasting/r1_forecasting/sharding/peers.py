"""Questions to other shards: one try in the time there is, and a typed outcome in any case."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from typing import Any

import aiohttp

from r1_common.foreign_json import InvalidJson
from r1_common.http_json import read_json
from r1_forecasting.service.metrics import ForecastMetrics
from r1_forecasting.sharding.ownership import Shards

LOG = logging.getLogger(__name__)

BACKOFF_SECONDS = 3.0
"""So long a shard that was silent is not asked again. Where a node is dead each question would wait
out its time, and with a thousand subjects those that ask would do nothing but wait."""


class PeerOutcome(StrEnum):
    """How a forwarded question ended."""

    ANSWERED = "Answered"
    NOT_OWNER = "NotOwner"
    NO_RESPONSE = "NoResponse"


@dataclass(frozen=True, slots=True)
class NoPeerResponse:
    """The owner said nothing that could be passed on, and why."""

    outcome: PeerOutcome
    message: str


@dataclass(slots=True)
class Peers:
    """Connections to the other shards; ``metrics`` counts what is asked of them."""

    metrics: ForecastMetrics
    clock: Callable[[], float] = time.monotonic
    _session: aiohttp.ClientSession | None = None
    _rests: dict[str, float] = field(default_factory=dict)

    async def post(
        self, shards: Shards, owner: str, path: str, body: Mapping[str, Any], seconds: float
    ) -> dict[str, Any] | NoPeerResponse:
        """The owner's JSON object, or why there is none after at most ``seconds``."""
        began = time.perf_counter()
        reply = await self._post(owner, shards.addresses[owner] + path, body, seconds)
        outcome = reply.outcome if isinstance(reply, NoPeerResponse) else PeerOutcome.ANSWERED
        self.metrics.forwarded.labels(owner, str(outcome)).inc()
        self.metrics.forward_seconds.observe(time.perf_counter() - began)
        return reply

    async def close(self) -> None:
        """Give up the connections."""
        if self._session is not None:
            await self._session.close()

    async def _post(
        self, owner: str, url: str, body: Mapping[str, Any], seconds: float
    ) -> dict[str, Any] | NoPeerResponse:
        if self.clock() < self._rests.get(owner, 0.0):
            return NoPeerResponse(PeerOutcome.NO_RESPONSE, f"{owner} did not answer a moment ago")
        try:
            async with asyncio.timeout(seconds):
                status, said = await self._exchange(url, body)
        except TimeoutError:
            return self._silent(owner, f"{owner} has not answered within {seconds:g} s")
        except InvalidJson as error:
            return self._silent(owner, f"{owner} {error}")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return self._silent(owner, f"{owner} does not answer: {error or type(error).__name__}")
        self._rests.pop(owner, None)
        if status == HTTPStatus.OK and isinstance(said, dict):
            return said
        if status == HTTPStatus.MISDIRECTED_REQUEST:
            return NoPeerResponse(
                PeerOutcome.NOT_OWNER, f"{owner} says that it does not own it: {said}"
            )
        return NoPeerResponse(
            PeerOutcome.NO_RESPONSE, f"{owner} answered {status}: {str(said)[:300]}"
        )

    async def _exchange(self, url: str, body: Mapping[str, Any]) -> tuple[int, Any]:
        """Status and JSON; a kept connection that has ended meanwhile is made anew, once."""
        if self._session is None:
            # The time of a question is the caller's affair, and counts both tries.
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None))
        try:
            return await _send(self._session, url, body)
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            return await _send(self._session, url, body)

    def _silent(self, owner: str, message: str) -> NoPeerResponse:
        if owner not in self._rests:  # said once, until it has answered again
            LOG.warning("%s; what it keeps is unavailable here", message)
        self._rests[owner] = self.clock() + BACKOFF_SECONDS
        return NoPeerResponse(PeerOutcome.NO_RESPONSE, message)


async def _send(
    session: aiohttp.ClientSession, url: str, body: Mapping[str, Any]
) -> tuple[int, Any]:
    async with session.post(url, json=body) as reply:
        kind, content = reply.headers.get("Content-Type", ""), await reply.read()
    return reply.status, read_json(reply.status, kind, content)

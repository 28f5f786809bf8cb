"""Client for other shards: one attempt within a timeout, with a typed outcome."""

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

from r1_common.http_json import read_json
from r1_common.untrusted_json import InvalidJson
from r1_forecasting.service.metrics import ForecastMetrics
from r1_forecasting.sharding.ownership import Shards

LOG = logging.getLogger(__name__)

BACKOFF_SECONDS = 3.0
"""Pause of requests to a shard that did not respond. Without it, every request for the series of a
dead node would wait for its whole timeout."""


class PeerOutcome(StrEnum):
    """Outcome of a forwarded request."""

    ANSWERED = "Answered"
    NOT_OWNER = "NotOwner"
    NO_RESPONSE = "NoResponse"


@dataclass(frozen=True, slots=True)
class NoPeerResponse:
    """The owner gave no usable response, and the cause."""

    outcome: PeerOutcome
    message: str


@dataclass(slots=True)
class Peers:
    """Connections to the other shards; ``metrics`` counts the requests to them."""

    metrics: ForecastMetrics
    clock: Callable[[], float] = time.monotonic
    _session: aiohttp.ClientSession | None = None
    _paused_until: dict[str, float] = field(default_factory=dict)

    async def post(
        self, shards: Shards, owner: str, path: str, body: Mapping[str, Any], seconds: float
    ) -> dict[str, Any] | NoPeerResponse:
        """Return the owner's JSON object, or the cause of its absence, within ``seconds``."""
        began = time.perf_counter()
        reply = await self._post(owner, shards.addresses[owner] + path, body, seconds)
        outcome = reply.outcome if isinstance(reply, NoPeerResponse) else PeerOutcome.ANSWERED
        self.metrics.forwarded.labels(owner, str(outcome)).inc()
        self.metrics.forward_seconds.observe(time.perf_counter() - began)
        return reply

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def _post(
        self, owner: str, url: str, body: Mapping[str, Any], seconds: float
    ) -> dict[str, Any] | NoPeerResponse:
        if self.clock() < self._paused_until.get(owner, 0.0):
            return NoPeerResponse(
                PeerOutcome.NO_RESPONSE,
                f"{owner} did not respond in the last {BACKOFF_SECONDS:g} s",
            )
        try:
            async with asyncio.timeout(seconds):
                status, response = await self._exchange(url, body)
        except TimeoutError:
            return self._no_response(owner, f"{owner} did not respond within {seconds:g} s")
        except InvalidJson as error:
            return self._no_response(owner, f"{owner} {error}")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return self._no_response(
                owner, f"{owner} is unreachable: {error or type(error).__name__}"
            )
        self._paused_until.pop(owner, None)
        if status == HTTPStatus.OK and isinstance(response, dict):
            return response
        if status == HTTPStatus.MISDIRECTED_REQUEST:
            return NoPeerResponse(
                PeerOutcome.NOT_OWNER, f"{owner} does not own the series by its list: {response}"
            )
        return NoPeerResponse(
            PeerOutcome.NO_RESPONSE, f"{owner} answered {status}: {str(response)[:300]}"
        )

    async def _exchange(self, url: str, body: Mapping[str, Any]) -> tuple[int, Any]:
        """Return status and JSON; a closed keep-alive connection is opened again, once."""
        if self._session is None:
            # The caller sets the timeout, which covers both attempts.
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None))
        try:
            return await _send(self._session, url, body)
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            return await _send(self._session, url, body)

    def _no_response(self, owner: str, message: str) -> NoPeerResponse:
        if owner not in self._paused_until:  # logged once, until the shard responds again
            LOG.warning(
                "%s; forecasts of its series are unavailable here until it responds", message
            )
        self._paused_until[owner] = self.clock() + BACKOFF_SECONDS
        return NoPeerResponse(PeerOutcome.NO_RESPONSE, message)


async def _send(
    session: aiohttp.ClientSession, url: str, body: Mapping[str, Any]
) -> tuple[int, Any]:
    async with session.post(url, json=body) as reply:
        kind, content = reply.headers.get("Content-Type", ""), await reply.read()
    return reply.status, read_json(reply.status, kind, content)

"""Load signals, polled from all gateways concurrently.

A gateway that does not answer in time counts as silent, not as idle: it stays among the expected
gateways, and the demand windows report it as missing. Gateways are identified by their name in the
directory, not by the name in their response, so that a gateway without any response is missing too.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import aiohttp

from r1_common.clock import PROCESS_CLOCK
from r1_common.contracts.priority_classes import BY_NAME
from r1_common.contracts.seat_reservations import ReservationRequest, reservations_document
from r1_common.contracts.unavailable import Unavailable
from r1_common.http_json import read_json
from r1_common.token_file import InvalidToken, read_token
from r1_common.untrusted_json import InvalidJson
from r1_operator.plan.signals.counter_sample import CounterSample
from r1_operator.plan.signals.gateway_signals import read_latencies, read_signals
from r1_operator.plan.signals.latency_histograms import GatewayLatencies
from r1_operator.sources.gateways import GatewayDirectory

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SignalsResponse:
    """A response of `/signals`: body, samples by route, and time of arrival on our clock."""

    body: Mapping[str, object]
    samples: Mapping[str, CounterSample]
    received_at: float


@dataclass(frozen=True, slots=True)
class SignalSnapshot:
    """One poll of all gateways: the expected gateways, their samples, and the silent ones with the cause.

    `answers` has the full responses by gateway, because few policies need the large histograms.
    """

    gateways: frozenset[str] = frozenset()
    routes: Mapping[str, tuple[CounterSample, ...]] = field(default_factory=dict)
    silent: Mapping[str, str] = field(default_factory=dict)
    answers: Mapping[str, SignalsResponse] = field(default_factory=dict)

    def latencies(self, route: str, gateway: str) -> GatewayLatencies | None:
        """The latency histograms of one route at one gateway; None where it sends none."""
        answer = self.answers.get(gateway)
        return None if answer is None else read_latencies(answer.body, route)


class GatewaySignals:
    """Polls `/signals` of every known gateway."""

    def __init__(
        self,
        directory: GatewayDirectory,
        *,
        timeout_seconds: float = 1.5,
        token_file: Path | None = None,
        now: Callable[[], float] = PROCESS_CLOCK.now,
    ) -> None:
        self._directory = directory
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._token_file = token_file
        """File with the token of the gateways' admin port."""
        self._now = now
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    def _headers(self) -> dict[str, str]:
        """Headers with the token of the admin port; an unusable file is logged and none is sent."""
        if self._token_file is None:
            return {}
        try:
            return {"Authorization": f"Bearer {read_token(self._token_file)}"}
        except InvalidToken as error:
            logger.warning("the token of the gateways cannot be used: %s", error)
            return {}

    async def read(self) -> SignalSnapshot:
        """Poll all gateways once; a failing gateway never raises."""
        gateways = await self._directory.signal_urls()
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout)
        answers = await asyncio.gather(
            *(self._poll(self._session, name, url) for name, url in gateways.items())
        )
        routes: dict[str, list[CounterSample]] = {}
        silent: dict[str, str] = {}
        good: dict[str, SignalsResponse] = {}
        for name, answer in zip(gateways, answers, strict=True):
            if isinstance(answer, str):
                silent[name] = answer
                continue
            good[name] = answer
            for route, sample in answer.samples.items():
                routes.setdefault(route, []).append(sample)
        return SignalSnapshot(
            frozenset(gateways),
            {route: tuple(samples) for route, samples in routes.items()},
            silent,
            good,
        )

    async def reserve_seats(
        self, seats: Mapping[str, Mapping[str, int]], valid_seconds: float
    ) -> None:
        """Reserve seats at every gateway, by `namespace/name` and class, for `valid_seconds`.

        A gateway that fails is logged; its own reservations stay in force.
        """
        body = reservations_document(
            ReservationRequest(
                valid_seconds,
                {
                    route: {BY_NAME[name]: count for name, count in by_class.items()}
                    for route, by_class in seats.items()
                },
            )
        )
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout)
        gateways = await self._directory.signal_urls()
        await asyncio.gather(
            *(
                self._put_reservations(self._session, name, url, body)
                for name, url in gateways.items()
            )
        )

    async def _put_reservations(
        self, session: aiohttp.ClientSession, name: str, url: str, body: Mapping[str, object]
    ) -> None:
        try:
            reservations_url = f"{url.removesuffix('/signals')}/seat-reservations"
            async with session.put(
                reservations_url, json=body, headers=self._headers()
            ) as response:
                if response.status != 204:
                    logger.debug(
                        "gateway %s rejected the seat reservations: HTTP %d", name, response.status
                    )
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            logger.debug("gateway %s did not get the seat reservations: %s", name, error)

    async def _poll(
        self, session: aiohttp.ClientSession, name: str, url: str
    ) -> SignalsResponse | str:
        try:
            async with session.get(url, headers=self._headers()) as response:
                response.raise_for_status()
                kind, body = response.headers.get("Content-Type", ""), await response.read()
            answer = read_json(response.status, kind, body)
        except InvalidJson as error:
            return str(error)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            return f"{type(error).__name__}: {error}"
        received_at = self._now()
        samples = read_signals(answer, received_at)
        if isinstance(samples, Unavailable):
            return samples.message
        good: dict[str, CounterSample] = {}
        for route, sample in samples.items():
            if isinstance(sample, Unavailable):
                logger.warning(
                    "signals of gateway %s for route %s are ignored: %s",
                    name,
                    route,
                    sample.message,
                )
            else:
                good[route] = replace(sample, gateway=name)
        return SignalsResponse(answer, good, received_at)

"""Several shards on the loopback interface, each with its own list of the others.

The test supplies the owners: real services, or stand-ins that record requests.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from r1_common.contracts.forecast_request import ForecastRequest
from r1_common.contracts.forecast_response import NoForecast
from r1_forecasting.service.metrics import ForecastMetrics
from r1_forecasting.sharding.ownership import Shards
from r1_forecasting.sharding.peer_api import LocalSeries, add_peer_api
from r1_forecasting.sharding.peers import Peers
from r1_forecasting.sharding.shard_router import ShardRouter

NAMES = ("r1-forecaster-0", "r1-forecaster-1", "r1-forecaster-2")


class NotingHome:
    """Has no data and records its requests."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.shown: list[str] = []
        self.operator_requests: dict[str, ForecastRequest] = {}

    async def operator_forecast(
        self, request: ForecastRequest, timeout_seconds: float
    ) -> NoForecast:
        self.requests.append(request.series_name)
        self.operator_requests[request.series_name] = request
        return self._said(request)

    async def forecast(self, request: ForecastRequest, timeout_seconds: float) -> NoForecast:
        self.shown.append(request.series_name)
        return self._said(request)

    async def operator_request(self, name: str) -> ForecastRequest | None:
        return self.operator_requests.get(name)

    @staticmethod
    def _said(request: ForecastRequest) -> NoForecast:
        return NoForecast(request.series_name, "NoData", "nothing yet")


@dataclass(slots=True)
class Shard:
    """One shard: its service, its router, and the names in its list."""

    name: str
    home: Any
    routed: ShardRouter
    server: TestServer
    knows: list[str]
    port: int = 0
    hops: list[str] = field(default_factory=list)
    """Paths of requests from other shards."""


@dataclass(slots=True)
class Release:
    """All shards by name."""

    shards: dict[str, Shard] = field(default_factory=dict)
    now: float = 0.0

    def __getitem__(self, name: str) -> Shard:
        return self.shards[name]

    def address(self, name: str) -> str:
        """URL of the shard, also after it has stopped."""
        return f"http://127.0.0.1:{self.shards[name].port}"

    def all_know(self, names: Sequence[str]) -> None:
        """Set the same list for every shard."""
        for shard in self.shards.values():
            shard.knows[:] = names

    def seen_from(self, name: str) -> Shards:
        known = {other: self.address(other) for other in self.shards[name].knows}
        return Shards(name, known)

    def owner(self, series_name: str) -> Shard:
        """The owner by the first shard's list."""
        return self.shards[self.seen_from(NAMES[0]).owner(series_name)]

    def others(self, series_name: str) -> list[Shard]:
        return [shard for shard in self.shards.values() if shard is not self.owner(series_name)]

    async def leaves(self, name: str) -> None:
        """End the process of a shard; its address stays in the lists."""
        await self.shards[name].server.close()

    async def returns(self, name: str, app: web.Application | None = None) -> None:
        """A new process at the old address, with the same service or another ``app``."""
        shard = self.shards[name]
        await shard.server.close()
        await self.serve(shard, app)

    async def serve(self, shard: Shard, app: web.Application | None = None) -> None:
        """Listen, at the previous port if there was one."""
        shard.server = TestServer(app or self.door(shard), port=shard.port or None)
        await shard.server.start_server()
        assert shard.server.port is not None
        shard.port = shard.server.port

    def door(self, shard: Shard) -> web.Application:
        """The shard's peer API, which records requests."""

        @web.middleware
        async def note(
            request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
        ) -> web.StreamResponse:
            shard.hops.append(request.path)
            return await handler(request)

        app = web.Application(middlewares=[note])
        add_peer_api(app, shard.home, lambda: self.seen_from(shard.name))
        return app


@asynccontextmanager
async def release(
    make: Callable[[], LocalSeries] = NotingHome, names: Sequence[str] = NAMES
) -> AsyncIterator[Release]:
    """Shards that serve until the block ends; the test clock controls the pause of requests."""
    made = Release()
    for name in names:
        metrics = ForecastMetrics()
        peers = Peers(metrics, clock=lambda: made.now)

        def knows(name: str = name) -> Shards:
            return made.seen_from(name)

        home = make()
        routed = ShardRouter(home, knows, peers, metrics)
        shard = Shard(name, home, routed, TestServer(web.Application()), list(names))
        made.shards[name] = shard
        await made.serve(shard)
    try:
        yield made
    finally:
        for shard in made.shards.values():
            await shard.routed.peers.close()
            await shard.server.close()

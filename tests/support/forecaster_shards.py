"""Several forecaster shards on the loopback interface, each with its own list of the others.

The local service of a shard is either a real one or a fake that records the requests.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from r1_forecasting.service.metrics import ForecastMetrics
from r1_forecasting.service.request import ForecastRequest
from r1_forecasting.sharding.ownership import Shards
from r1_forecasting.sharding.peer_api import Local, add_peer_api
from r1_forecasting.sharding.peers import Peers
from r1_forecasting.sharding.routed import Routed

NAMES = ("r1-forecaster-0", "r1-forecaster-1", "r1-forecaster-2")


class NotingHome:
    """A local service without data that records the requests."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.shown: list[str] = []
        self.standing: dict[str, ForecastRequest] = {}

    async def ask(self, request: ForecastRequest, patience: float) -> dict[str, Any]:
        self.asked.append(request.subject)
        self.standing[request.subject] = request
        return self._said(request)

    async def answer(self, request: ForecastRequest, patience: float) -> dict[str, Any]:
        self.shown.append(request.subject)
        return self._said(request)

    async def standing_request(self, name: str) -> ForecastRequest | None:
        return self.standing.get(name)

    @staticmethod
    def _said(request: ForecastRequest) -> dict[str, Any]:
        unavailable = {"state": "Unavailable", "reason": "NoData", "message": "nothing yet"}
        return {"subject": request.subject} | unavailable


@dataclass(slots=True)
class Shard:
    """A shard: its local service, its routing to peers, and the names in its list."""

    name: str
    home: Any
    routed: Routed
    server: TestServer
    knows: list[str]
    port: int = 0
    hops: list[str] = field(default_factory=list)
    """Paths of the requests from other shards."""


@dataclass(slots=True)
class Release:
    """All shards by name."""

    shards: dict[str, Shard] = field(default_factory=dict)
    now: float = 0.0

    def __getitem__(self, name: str) -> Shard:
        return self.shards[name]

    def address(self, name: str) -> str:
        """Current or last address of the shard."""
        return f"http://127.0.0.1:{self.shards[name].port}"

    def all_know(self, names: Sequence[str]) -> None:
        """Set the same list for every shard."""
        for shard in self.shards.values():
            shard.knows[:] = names

    def seen_from(self, name: str) -> Shards:
        known = {other: self.address(other) for other in self.shards[name].knows}
        return Shards(name, known)

    def owner(self, subject: str) -> Shard:
        """The owner of a series by the list of the first shard."""
        return self.shards[self.seen_from(NAMES[0]).owner(subject)]

    def others(self, subject: str) -> list[Shard]:
        return [shard for shard in self.shards.values() if shard is not self.owner(subject)]

    async def leaves(self, name: str) -> None:
        """End the process of a shard; its address stays in the lists."""
        await self.shards[name].server.close()

    async def returns(self, name: str, app: web.Application | None = None) -> None:
        """Start a new process at the old address, with the same local service or another ``app``."""
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
        """The shard's peer API, which records the requests."""

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
    make: Callable[[], Local] = NotingHome, names: Sequence[str] = NAMES
) -> AsyncIterator[Release]:
    """Shards that serve until the block ends; `Release.now` is the clock of retries to peers."""
    made = Release()
    for name in names:
        metrics = ForecastMetrics()
        peers = Peers(metrics, clock=lambda: made.now)

        def knows(name: str = name) -> Shards:
            return made.seen_from(name)

        home = make()
        routed = Routed(home, knows, peers, metrics)
        shard = Shard(name, home, routed, TestServer(web.Application()), list(names))
        made.shards[name] = shard
        await made.serve(shard)
    try:
        yield made
    finally:
        for shard in made.shards.values():
            await shard.routed.peers.close()
            await shard.server.close()

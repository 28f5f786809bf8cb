"""A service as one of several shards: its door for the others, and their list as it changes."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator

from aiohttp import web

from r1_forecasting.file_watcher import FileWatcher
from r1_forecasting.service.service import ForecastService
from r1_forecasting.sharding.ownership import Addresses, Shards
from r1_forecasting.sharding.peer_api import add_peer_api
from r1_forecasting.sharding.peers import Peers
from r1_forecasting.sharding.shard_router import ShardRouter

LOG = logging.getLogger(__name__)


def route(service: ForecastService, own: str, listed: FileWatcher[Addresses]) -> ShardRouter:
    """What the doors of the shard ``own`` ask, by the list as it stands at each question."""
    peers = Peers(service.metrics)
    return ShardRouter(service, lambda: Shards(own, listed.content), peers, service.metrics)


def open_shard(
    app: web.Application,
    service: ForecastService,
    routed: ShardRouter,
    listed: FileWatcher[Addresses],
) -> None:
    """Answer the other shards, and give up what becomes theirs when the list changes."""
    add_peer_api(app, service, routed.shards)

    def changed() -> None:
        shards = routed.shards()
        service.metrics.shards.set(len(shards.addresses))
        LOG.info(
            "%d shards; %d subjects have another home now",
            len(shards.addresses),
            service.retain_only(shards.owns),
        )

    async def run(_: web.Application) -> AsyncIterator[None]:
        service.metrics.shards.set(len(listed.content))
        service.supervisor.start("shards file", lambda: listed.follow(changed))
        with contextlib.suppress(GeneratorExit):
            yield
        await service.supervisor.stop()
        await routed.peers.close()

    app.cleanup_ctx.append(run)

"""Setup of a service as one of several shards: its peer API and the watched list of shards."""

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


def build_router(
    service: ForecastService, own: str, shard_list: FileWatcher[Addresses]
) -> ShardRouter:
    """Build the router of the shard ``own``; each request reads the current list."""
    peers = Peers(service.metrics)
    return ShardRouter(service, lambda: Shards(own, shard_list.content), peers, service.metrics)


def open_shard(
    app: web.Application,
    service: ForecastService,
    router: ShardRouter,
    shard_list: FileWatcher[Addresses],
) -> None:
    """Serve the other shards; drop series that they own after a change of the list."""
    add_peer_api(app, service, router.shards)

    def changed() -> None:
        shards = router.shards()
        service.metrics.shards.set(len(shards.addresses))
        LOG.info(
            "%d shards in the list; %d series have moved to another shard",
            len(shards.addresses),
            service.retain_only(shards.owns),
        )

    async def run(_: web.Application) -> AsyncIterator[None]:
        service.metrics.shards.set(len(shard_list.content))
        service.supervisor.start("shards file", lambda: shard_list.watch(changed))
        with contextlib.suppress(GeneratorExit):
            yield
        await service.supervisor.stop()
        await router.peers.close()

    app.cleanup_ctx.append(run)

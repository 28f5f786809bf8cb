"""The process: listeners, watches, and a stop that loses no request.

On SIGTERM: not ready at once; accept for ``linger`` seconds more, because Services and proxies
learn late; then close the listeners and the idle connections, and let what runs or waits finish
within ``drain`` seconds.  A second signal ends it at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import signal
import sys
import time
from collections.abc import Callable

from aiohttp import web

from r1_common import listen
from r1_gateway.admin import build_admin
from r1_gateway.client_connection import ClientConnection
from r1_gateway.discovery import Discovery
from r1_gateway.door import Door
from r1_gateway.errors import unavailable
from r1_gateway.exchange import Exchange
from r1_gateway.kube_access import NoCluster
from r1_gateway.metrics import build_registry
from r1_gateway.options import Options
from r1_gateway.static_config import FileWatch, watch_config, watch_keys
from r1_gateway.upstream import IDLE_SECONDS

logger = logging.getLogger(__name__)

SWEEP_SECONDS = 1.0
BACKLOG = 1024
FAREWELL_SECONDS = 0.5


class ConfigurationError(Exception):
    """The gateway cannot start as it was told; the message says what to change."""


class GatewayServer:
    """One gateway: start it, let it serve, stop it."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.door = Door(
            max_body_bytes=options.max_body_bytes,
            on_end=_log_access if options.access_log else None,
        )
        self._files: list[FileWatch] = []
        self._discovery: Discovery | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._servers: list[asyncio.Server] = []
        self._admin: web.AppRunner | None = None
        self._stopping = False
        self.port = 0
        self.admin_port = 0

    async def start(self) -> None:
        """Read the files, open both listeners, begin to watch.

        Raises:
            ConfigurationError: a file cannot be used, or there is neither a file nor a cluster.
            OSError: a port is taken.
        """
        options, door = self.options, self.door
        if options.keys_file is not None:
            self._files.append(watch_keys(options.keys_file, door))
        if options.config is not None:
            self._files.append(watch_config(options.config, door))
        for watch in self._files:
            watch.check()
            if not watch.loaded:
                raise ConfigurationError(f"{watch.path} cannot be used; see the line above")
        if options.config is None:
            self._discovery = Discovery(
                door,
                namespace=options.watch_namespace,
                gateway_service=options.gateway_service,
            )
            await self._discovery.connect()
        loop = asyncio.get_running_loop()
        sockets = listen.bind(options.host, options.port)
        self.port = listen.port_of(sockets)
        for each in sockets:
            server = await loop.create_server(
                lambda: ClientConnection(door), sock=each, backlog=BACKLOG
            )
            self._servers.append(server)
        registry = build_registry(door, self._configuration_errors)
        application = build_admin(door, registry, options.name, self.unready_because)
        self._admin = web.AppRunner(application, access_log=None, handle_signals=False)
        await self._admin.setup()
        sockets = listen.bind(options.admin_host, options.admin_port)
        self.admin_port = listen.port_of(sockets)
        for each in sockets:
            await web.SockSite(self._admin, each).start()
        jobs = [watch.run() for watch in self._files]
        jobs.append(self._sweep())
        if self._discovery is not None:
            jobs.append(self._discovery.run())
        self._tasks = [asyncio.create_task(job) for job in jobs]
        gc.collect()
        gc.freeze()
        logger.info("serving on port %d, admin on port %d", self.port, self.admin_port)

    def unready_because(self) -> str | None:
        """Why no new request should come here, or None."""
        if self._stopping:
            return "stopping"
        if self._discovery is not None and not self._discovery.synced:
            return "routes and pods have not been listed yet"
        return None

    def _configuration_errors(self) -> int:
        errors = sum(watch.errors for watch in self._files)
        return errors + (self._discovery.errors if self._discovery is not None else 0)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            now = self.door.now()
            for client in [c for c in self.door.clients if c.deadline <= now]:
                client.overdue()
            self.door.connections.close_idle(now - IDLE_SECONDS)

    async def stop(self, hurry: asyncio.Event | None = None) -> None:
        """Stop without losing a request, unless ``hurry`` is set or the grace ends."""
        self._stopping = True
        hurry = hurry or asyncio.Event()
        logger.info("stopping: accepting for %.0f s more", self.options.linger_seconds)
        await _wait(hurry, self.options.linger_seconds, lambda: False)
        door = self.door
        door.closing = True
        for server in self._servers:
            server.close()
        for client in [c for c in door.clients if c.is_idle]:
            client.finish()
        await _wait(hurry, self.options.drain_seconds, lambda: not door.clients)
        left = door.busy
        if left:
            logger.warning("%d requests were cut off", left)
            error = unavailable("gateway_stopping", "the gateway stopped; ask again", 1.0)
            for client in [c for c in door.clients if c.exchange is not None]:
                if client.exchange is not None:
                    client.exchange.cut(error)
            await _wait(hurry, FAREWELL_SECONDS, lambda: not door.clients)
        for client in list(door.clients):
            client.overdue()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._discovery is not None:
            await self._discovery.close()
        if self._admin is not None:
            await self._admin.cleanup()
        door.connections.close_idle(float("inf"))
        logger.info("stopped")


async def _wait(hurry: asyncio.Event, seconds: float, done: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while not done() and not hurry.is_set() and (left := end - time.monotonic()) > 0:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(hurry.wait(), min(left, 0.05))


async def run(options: Options) -> int:
    """Serve until SIGTERM or SIGINT; the exit status."""
    server = GatewayServer(options)
    stop, hurry = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (hurry if stop.is_set() else stop).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    try:
        await server.start()
    except (ConfigurationError, NoCluster, OSError) as error:
        print(f"r1_gateway: {error}", file=sys.stderr)
        return 2
    await stop.wait()
    await server.stop(hurry)
    return 0


def _log_access(exchange: Exchange) -> None:
    line = {
        "at": round(time.time(), 3),
        "request": exchange.request_id.decode("ascii", "replace"),
        "route": exchange.route.spec.key,
        "class": exchange.klass.name,
        "status": exchange.status,
        "queueSeconds": round(exchange.queue_seconds or 0.0, 4),
        "seconds": round(time.monotonic() - exchange.arrived, 4),
    }
    print(json.dumps(line), flush=True)

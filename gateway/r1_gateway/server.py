"""The process: listeners, watches, and a stop that loses no request.

On SIGTERM: not ready at once, and each answer closes its connection; accept for ``linger`` seconds
more, because Services and proxies learn late; then close the listeners, and the connections that
were quiet for ``QUIET_SECONDS``, and let what runs, waits or still arrives finish within ``drain``
seconds.  A second signal ends it at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import cast

from aiohttp import web

from r1_common import listen
from r1_common.kube.access import NoCluster
from r1_common.supervision import Supervisor
from r1_gateway.admin import build_admin
from r1_gateway.gateway import Gateway
from r1_gateway.http.client_connection import ClientConnection
from r1_gateway.http.errors import unavailable
from r1_gateway.http.upstream import IDLE_SECONDS
from r1_gateway.kube.discovery import Discovery
from r1_gateway.options import GatewayOptions
from r1_gateway.routes.static_config import FileWatch, watch_config, watch_keys
from r1_gateway.telemetry.access_log import AccessLog
from r1_gateway.telemetry.metrics import MetricsPage, ProcessFigures
from r1_gateway.telemetry.output_queue import OutputQueue

logger = logging.getLogger(__name__)

SWEEP_SECONDS = 1.0
BACKLOG = 1024
FAREWELL_SECONDS = 0.5
# A connection without a request for so long is closed while the gateway stops.  Its client may send
# one at that very moment, but a client in the middle of its work does not pause that long.
QUIET_SECONDS = 1.0


class ConfigurationError(Exception):
    """The gateway cannot start as it was told; the message says what to change."""


class GatewayServer:
    """One gateway: start it, let it serve, stop it."""

    def __init__(self, options: GatewayOptions, log: OutputQueue | None = None) -> None:
        self.options = options
        self._outputs = {} if log is None else {"process": log}
        access: AccessLog | None = None
        if options.access_log:
            self._outputs["access"] = OutputQueue(sys.__stdout__.fileno() if sys.__stdout__ else 1)
            access = AccessLog(self._outputs["access"])
        self.door = Gateway(
            max_body_bytes=options.max_body_bytes,
            max_buffered_bytes=options.max_buffered_bytes,
            on_end=access.ended if access else None,
            on_refused=access.refused if access else None,
        )
        self._supervisor = Supervisor()
        self._files: list[FileWatch] = []
        self._discovery: Discovery | None = None
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
                raise ConfigurationError(f"{watch.path} cannot be used; see the log")
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
            for listener in server.sockets:
                _keep_alive(listener)
            self._servers.append(server)
        supervisor = self._supervisor
        page = MetricsPage(door, self._figures())
        application = build_admin(
            door, page, options.name, self.unready_because, supervisor.failing
        )
        self._admin = web.AppRunner(application, access_log=None, handle_signals=False)
        await self._admin.setup()
        sockets = listen.bind(options.admin_host, options.admin_port)
        self.admin_port = listen.port_of(sockets)
        for each in sockets:
            await web.SockSite(self._admin, each).start()
        for watch in self._files:
            supervisor.start(f"watch of {watch.path}", watch.run)
        supervisor.start("deadline sweep", self._sweep)
        if self._discovery is not None:
            self._discovery.start(supervisor)
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

    def _figures(self) -> ProcessFigures:
        discovery = self._discovery
        return ProcessFigures(
            invalid_configurations=self._configuration_errors,
            refused_configmaps=lambda: list(discovery.refused) if discovery else (),
            task_restarts=lambda: {s.name: s.restarts for s in self._supervisor.states},
            dropped_lines=lambda: {name: each.dropped for name, each in self._outputs.items()},
        )

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            now = self.door.now()
            for client in list(self.door.clients):
                try:
                    client.look_at_time(now)
                except Exception:  # the others have deadlines, too
                    logger.exception("the deadline of a connection could not be enforced")
            self.door.connections.close_idle(now - IDLE_SECONDS)

    async def stop(self, hurry: asyncio.Event | None = None) -> None:
        """Stop without losing a request, unless ``hurry`` is set or the grace ends."""
        self._stopping = True
        door = self.door
        door.closing = True
        hurry = hurry or asyncio.Event()
        logger.info("stopping: accepting for %.0f s more", self.options.linger_seconds)
        await _wait(hurry, self.options.linger_seconds, lambda: False)
        for server in self._servers:
            server.close()
        await _wait(hurry, self.options.drain_seconds, self._drained)
        left = door.busy
        if left:
            logger.warning("%d requests were cut off", left)
            error = unavailable("gateway_stopping", "the gateway stopped; ask again", 1.0)
            for client in [c for c in door.clients if c.exchange is not None]:
                if client.exchange is not None:
                    client.exchange.cut(error)
            await _wait(hurry, FAREWELL_SECONDS, lambda: not door.clients)
        for client in list(door.clients):
            client.abort()
        await self._supervisor.stop()
        if self._discovery is not None:
            await self._discovery.close()
        if self._admin is not None:
            await self._admin.cleanup()
        door.connections.close_idle(float("inf"))
        logger.info("stopped")
        for output in self._outputs.values():
            output.close()

    def _drained(self) -> bool:
        """Close the connections that are quiet; True when no connection is left."""
        quiet_before = self.door.now() - QUIET_SECONDS
        for client in [c for c in self.door.clients if c.is_idle]:
            if client.quiet_since <= quiet_before and not client.refusing:
                client.finish()
        return not self.door.clients


async def _wait(hurry: asyncio.Event, seconds: float, done: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while not done() and not hurry.is_set() and (left := end - time.monotonic()) > 0:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(hurry.wait(), min(left, 0.05))


def _keep_alive(listener: object) -> None:
    """Accepted connections inherit it: a client that lost its network frees its place at last."""
    options = (
        (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
        (socket.IPPROTO_TCP, "TCP_KEEPIDLE", 60),
        (socket.IPPROTO_TCP, "TCP_KEEPINTVL", 15),
        (socket.IPPROTO_TCP, "TCP_KEEPCNT", 4),
    )
    for level, name, value in options:
        option = getattr(socket, name, None)
        if option is not None:
            cast("socket.socket", listener).setsockopt(level, option, value)


async def run(options: GatewayOptions, log: OutputQueue | None = None) -> int:
    """Serve until SIGTERM or SIGINT; the exit status.  ``log`` is where the process's log goes."""
    server = GatewayServer(options, log)
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

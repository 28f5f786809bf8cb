"""The gateway process: listeners, watches, and a graceful shutdown.

On SIGTERM the gateway is not ready at once, and each response closes its connection.  It accepts for
``linger`` seconds more, because Services and proxies update late.  Then it closes the listeners and
the connections that were quiet for ``QUIET_SECONDS``.  Requests that arrive, are queued or in flight
finish within ``drain`` seconds.  A second signal ends the process at once.
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
from r1_gateway.client_connection import ClientConnection
from r1_gateway.gateway import Gateway
from r1_gateway.http.errors import unavailable
from r1_gateway.http.upstream import IDLE_SECONDS
from r1_gateway.kube.discovery import Discovery
from r1_gateway.options import GatewayOptions
from r1_gateway.static_config import FileWatch, watch_config, watch_keys
from r1_gateway.telemetry.access_log import AccessLog
from r1_gateway.telemetry.metrics import MetricsPage
from r1_gateway.telemetry.output_queue import OutputQueue
from r1_gateway.telemetry.process_metrics import ProcessStats
from r1_gateway.tenants.shared_usage import RedisStore, SharedUsage

logger = logging.getLogger(__name__)

SWEEP_SECONDS = 1.0
BACKLOG = 1024
FINAL_WRITE_SECONDS = 0.5
# During shutdown a connection without a request for this long is closed.  Its client may send a
# request at that moment, but an active client rarely pauses that long.
QUIET_SECONDS = 1.0


class ConfigurationError(Exception):
    """The gateway cannot start; the message names the setting to change."""


class GatewayServer:
    """One gateway process: its listeners, background tasks and shutdown."""

    def __init__(self, options: GatewayOptions, log: OutputQueue | None = None) -> None:
        self.options = options
        self._outputs = {} if log is None else {"process": log}
        access: AccessLog | None = None
        if options.access_log:
            self._outputs["access"] = OutputQueue(sys.__stdout__.fileno() if sys.__stdout__ else 1)
            access = AccessLog(self._outputs["access"])
        self.gateway = Gateway(
            max_body_bytes=options.max_body_bytes,
            max_buffered_bytes=options.max_buffered_bytes,
            fair_share=options.keys_file is not None,
            on_end=access.request_ended if access else None,
            on_invalid=access.invalid_request if access else None,
        )
        self._supervisor = Supervisor()
        self._shared_usage: SharedUsage | None = None
        self._files: list[FileWatch] = []
        self._discovery: Discovery | None = None
        self._servers: list[asyncio.Server] = []
        self._admin: web.AppRunner | None = None
        self._stopping = False
        self.port = 0
        self.admin_port = 0

    async def start(self) -> None:
        """Read the files, open both listeners, start the watches.

        Raises:
            ConfigurationError: a file cannot be used, or there is neither a file nor a cluster.
            OSError: a port is taken.
        """
        options, gateway = self.options, self.gateway
        if options.keys_file is not None:
            self._files.append(watch_keys(options.keys_file, gateway))
        if options.config is not None:
            self._files.append(watch_config(options.config, gateway))
        for watch in self._files:
            watch.check()
            if not watch.loaded:
                raise ConfigurationError(
                    f"{watch.path} cannot be used: fix the error in the log line above"
                )
        if options.redis is not None:
            try:
                store = RedisStore(options.redis)
            except ValueError as error:
                raise ConfigurationError(f"--redis: {error}") from None
            self._shared_usage = SharedUsage(gateway.limiter, store)
        if options.config is None:
            self._discovery = Discovery(
                gateway,
                namespace=options.watch_namespace,
                gateway_service=options.gateway_service,
            )
            await self._discovery.connect()
        loop = asyncio.get_running_loop()
        sockets = listen.bind(options.host, options.port)
        self.port = listen.port_of(sockets)
        for each in sockets:
            server = await loop.create_server(
                lambda: ClientConnection(gateway), sock=each, backlog=BACKLOG
            )
            for listener in server.sockets:
                _keep_alive(listener)
            self._servers.append(server)
        supervisor = self._supervisor
        page = MetricsPage(gateway, self._process_stats())
        application = build_admin(
            gateway,
            page,
            options.name,
            self.not_ready_reason,
            supervisor.failing,
            options.admin_token_file,
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
        if options.keys_file is not None:
            supervisor.start("signing keys of tokens", gateway.tokens.run)
        if self._shared_usage is not None:
            supervisor.start("usage in Redis", self._shared_usage.run)
        if self._discovery is not None:
            self._discovery.start(supervisor)
        gc.collect()
        gc.freeze()
        logger.info("serving on port %d, admin on port %d", self.port, self.admin_port)

    def not_ready_reason(self) -> str | None:
        """Reason for a failed readiness probe, or None."""
        if self._stopping:
            return "the gateway is stopping"
        if self._discovery is not None and not self._discovery.synced:
            return "waiting for the first list of routes and pods from the API server"
        return None

    def _configuration_errors(self) -> int:
        errors = sum(watch.errors for watch in self._files)
        return errors + (self._discovery.errors if self._discovery is not None else 0)

    def _process_stats(self) -> ProcessStats:
        discovery = self._discovery
        return ProcessStats(
            invalid_configurations=self._configuration_errors,
            invalid_configmaps=lambda: list(discovery.invalid_configmaps) if discovery else (),
            task_restarts=lambda: {s.name: s.restarts for s in self._supervisor.states},
            shared_usage=lambda: (
                None
                if self._shared_usage is None
                else (self._shared_usage.reachable, self._shared_usage.errors)
            ),
            dropped_lines=lambda: {name: each.dropped for name, each in self._outputs.items()},
        )

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            now = self.gateway.now()
            for client in list(self.gateway.clients):
                try:
                    client.check_deadlines(now)
                except Exception:  # one failure must not stop the sweep of the others
                    logger.exception("cannot enforce the deadline of a connection")
            self.gateway.connections.close_idle(now - IDLE_SECONDS)

    async def stop(self, stop_now: asyncio.Event | None = None) -> None:
        """Stop without losing a request, unless ``stop_now`` is set or the drain time ends."""
        self._stopping = True
        gateway = self.gateway
        gateway.closing = True
        stop_now = stop_now or asyncio.Event()
        logger.info("stopping: accepting connections for %.0f s more", self.options.linger_seconds)
        await _wait(stop_now, self.options.linger_seconds, lambda: False)
        for server in self._servers:
            server.close()
        await _wait(stop_now, self.options.drain_seconds, self._drained)
        left = gateway.busy
        if left:
            logger.warning(
                "stopping: %d requests were cut off after the drain time of %.0f s "
                "(--drain-seconds)",
                left,
                self.options.drain_seconds,
            )
            error = unavailable(
                "gateway_stopping", "the gateway is stopping: retry the request", 1.0
            )
            for client in [c for c in gateway.clients if c.exchange is not None]:
                if client.exchange is not None:
                    client.exchange.cut(error)
            await _wait(stop_now, FINAL_WRITE_SECONDS, lambda: not gateway.clients)
        for client in list(gateway.clients):
            client.abort()
        await self._supervisor.stop()
        if self._shared_usage is not None:
            await self._shared_usage.close()
        if self._discovery is not None:
            await self._discovery.close()
        if self._admin is not None:
            await self._admin.cleanup()
        gateway.connections.close_idle(float("inf"))
        logger.info("stopped")
        for output in self._outputs.values():
            output.close()

    def _drained(self) -> bool:
        """Close the quiet connections; True when no connection is left."""
        quiet_before = self.gateway.now() - QUIET_SECONDS
        for client in [c for c in self.gateway.clients if c.is_idle]:
            if client.quiet_since <= quiet_before and not client.refusing:
                client.finish()
        return not self.gateway.clients


async def _wait(stop_now: asyncio.Event, seconds: float, done: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while not done() and not stop_now.is_set() and (left := end - time.monotonic()) > 0:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop_now.wait(), min(left, 0.05))


def _keep_alive(listener: object) -> None:
    """Set TCP keep-alive; accepted connections inherit it, so lost clients free their seats."""
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
    """Serve until SIGTERM or SIGINT; the exit status.  ``log`` is the queue of the process's log."""
    server = GatewayServer(options, log)
    stop, stop_now = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (stop_now if stop.is_set() else stop).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    try:
        await server.start()
    except (ConfigurationError, NoCluster, OSError) as error:
        print(f"r1_gateway: {error}", file=sys.stderr)
        return 2
    await stop.wait()
    await server.stop(stop_now)
    return 0

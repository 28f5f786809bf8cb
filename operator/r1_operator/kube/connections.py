"""Connections to the API server that are closed together with their client.

Closing a TLS connection waits for the close notification of the peer. A cancelled watch or request
closes its connection in the background, and a process or event loop that ends before leaks the socket.
This client aborts all open connections when it is closed.
"""

from __future__ import annotations

import asyncio
import weakref
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from kubernetes.aio.client.rest import RESTClientObject


class Connector(aiohttp.TCPConnector):
    """A connector that tracks its open connections."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._transports: weakref.WeakSet[asyncio.BaseTransport] = weakref.WeakSet()

    async def _create_connection(self, *args: Any, **options: Any) -> ResponseHandler:
        handler = await super()._create_connection(*args, **options)
        if handler.transport is not None:
            self._transports.add(handler.transport)
        return handler

    async def drop_all(self) -> None:
        """Abort every connection, also those in the closing handshake."""
        open_transports = list(self._transports)
        for transport in open_transports:
            if isinstance(transport, asyncio.WriteTransport):
                transport.abort()
        if open_transports:
            await asyncio.sleep(0)  # the loop closes a socket in its next iteration


class Rest(RESTClientObject):
    """The REST client of `kubernetes.aio` with tracked connections."""

    def __init__(self, configuration: Any) -> None:
        super().__init__(configuration)
        self._connector: Connector | None = None

    def _create_connector(self) -> aiohttp.TCPConnector:
        self._connector = Connector(limit=self.maxsize, ssl=self.ssl_context)
        return self._connector

    async def close(self) -> None:
        """Close the session and abort its open connections."""
        await super().close()
        if self._connector is not None:
            await self._connector.drop_all()

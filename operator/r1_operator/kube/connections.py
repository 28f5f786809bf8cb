"""Connections to the API server that end when their client does.

A TLS connection that is closed says goodbye and waits for the other side's. A watch or a request
that was given up in the middle is closed in that way, by nobody in particular, and a process (or a
loop) that ends meanwhile leaves a socket behind. Here a client that ends drops whatever is open_transports.
"""

from __future__ import annotations

import asyncio
import weakref
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from kubernetes.aio.client.rest import RESTClientObject


class Connector(aiohttp.TCPConnector):
    """Remembers the connections that it made, for as long as they exist."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._transports: weakref.WeakSet[asyncio.BaseTransport] = weakref.WeakSet()

    async def _create_connection(self, *args: Any, **options: Any) -> ResponseHandler:
        handler = await super()._create_connection(*args, **options)
        if handler.transport is not None:
            self._transports.add(handler.transport)
        return handler

    async def drop_all(self) -> None:
        """End every connection at once, those that are saying goodbye as well."""
        open_transports = list(self._transports)
        for transport in open_transports:
            if isinstance(transport, asyncio.WriteTransport):
                transport.abort()
        if open_transports:
            await asyncio.sleep(0)  # a socket is closed in the loop's next turn


class Rest(RESTClientObject):
    """The package's client, over connections that can be dropped."""

    def __init__(self, configuration: Any) -> None:
        super().__init__(configuration)
        self._connector: Connector | None = None

    def _create_connector(self) -> aiohttp.TCPConnector:
        self._connector = Connector(limit=self.maxsize, ssl=self.ssl_context)
        return self._connector

    async def close(self) -> None:
        """Close the session and drop what is open_transports of its connections."""
        await super().close()
        if self._connector is not None:
            await self._connector.drop_all()

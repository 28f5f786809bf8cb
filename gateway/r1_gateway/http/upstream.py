"""Connections to pods: one request at a time, pooled and reused.

An :class:`UpstreamConnection` does the framing only: it passes bytes to its reader and knows when the
head and the whole response are complete.  ``should_keep_alive()`` is read when the head is complete:
after ``feed_data`` it is wrong, and each request would open a new connection.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from typing import Protocol, cast

import httptools

IDLE_SECONDS = 4.0  # uvicorn, which serves vLLM, closes idle connections after 5 s
CONNECT_SECONDS = 3.0

# A node that loses power sends nothing.  The peer counts as lost after PEER_SILENCE_SECONDS without an
# answered probe or an acknowledgement of sent data.
PEER_SILENCE_SECONDS = 60
_SOCKET_OPTIONS = (
    (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
    (socket.IPPROTO_TCP, "TCP_KEEPIDLE", 20),
    (socket.IPPROTO_TCP, "TCP_KEEPINTVL", 10),
    (socket.IPPROTO_TCP, "TCP_KEEPCNT", 4),
    (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", PEER_SILENCE_SECONDS * 1000),
)
JOIN_BYTES = 1 << 16

logger = logging.getLogger(__name__)


class ResponseReader(Protocol):
    """The receiver of a pod's response: the exchange."""

    def upstream_bytes(self, data: bytes) -> None:
        """Bytes arrived; the connection's flags are already updated."""

    def upstream_lost(self, reason: str) -> None:
        """The connection ended before the response was complete."""


class UpstreamConnection(asyncio.Protocol):
    """One connection to one pod."""

    __slots__ = (
        "address", "body_parts", "collect", "complete", "excess", "head_complete", "idle_since",
        "interim", "interim_heads", "keep_alive", "keep_parts", "parser", "paused", "pool", "reader",
        "status", "transport", "used",
    )  # fmt: skip

    def __init__(self, pool: ConnectionPool, address: str) -> None:
        self.pool = pool
        self.address = address
        self.parser = httptools.HttpResponseParser(self)
        self.transport: asyncio.Transport | None = None
        self.reader: ResponseReader | None = None
        self.idle_since = 0.0
        self.used = False
        self.paused = False
        self._reset()

    def _reset(self) -> None:
        self.status = 0
        self.head_complete = self.complete = self.keep_alive = False
        self.excess = self.interim = False
        self.interim_heads = 0
        self.keep_parts = False
        self.collect = True
        self.body_parts: list[bytes] = []

    # -- parser callbacks ----------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self.complete:
            self.excess = True

    def on_headers_complete(self) -> None:
        status = self.parser.get_status_code()
        if status < 200:
            self.interim = True
            return
        self.status = status
        self.keep_alive = self.parser.should_keep_alive()
        self.head_complete = True

    def on_body(self, body: bytes) -> None:
        if self.collect:
            self.body_parts.append(body)

    def on_message_complete(self) -> None:
        if self.interim:
            self.interim = False
            self.interim_heads += 1
        else:
            self.complete = True

    # -- transport callbacks -------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop registers no subclass
        detect_lost_peer(transport.get_extra_info("socket"))

    def data_received(self, data: bytes) -> None:
        reader = self.reader
        if reader is None:  # bytes on an idle connection
            self.close()
            return
        try:
            self.parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.excess = True
            if not self.complete:
                self.fail(f"the response is not HTTP: {error}")
                return
        if self.excess:
            self.keep_alive = False
            self.fail("the pod sent more than one response")
            return
        try:
            reader.upstream_bytes(data)
        except Exception as error:  # the request must end, so that its seat is freed
            logger.exception("the response of pod %s could not be relayed", self.address)
            self.keep_alive = False
            reader, self.reader = self.reader or reader, None
            self.close()
            reader.upstream_lost(f"the gateway could not relay the response: {error}")

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.pool.forget(self)
        reader, self.reader = self.reader, None
        if reader is not None:
            reader.upstream_lost(
                "the pod closed the connection" if exc is None else f"connection lost: {exc}"
            )

    # -- use by the exchange ---------------------------------------------------------------------

    def send(self, reader: ResponseReader, head: bytes, body: bytes) -> None:
        """Write a request; its response goes to ``reader``."""
        assert self.transport is not None  # noqa: S101
        if self.used:
            self._reset()
        self.reader = reader
        if len(body) < JOIN_BYTES:
            self.transport.write(head + body)
        else:  # not joined: a second copy would stay until the pod has read it
            self.transport.writelines((head, body))

    def take_parts(self) -> bytes:
        """The body since the last call, without its transfer coding."""
        parts, self.body_parts = self.body_parts, []
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def is_between_chunks(self) -> bool:
        """Whether the stream ended between two chunks; the parser is unusable afterwards.

        Callbacks for each chunk would cost two calls per chunk.  So the parser is fed the end mark of
        a body, which is valid only between chunks; this is done for a broken stream only.
        """
        try:
            self.parser.feed_data(b"0\r\n\r\n")
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            return False
        return self.complete

    def fail(self, reason: str) -> None:
        """Close the connection and report the failure to the reader."""
        reader, self.reader = self.reader, None
        self.close()
        if reader is not None:
            reader.upstream_lost(reason)

    def done(self) -> None:
        """The response is complete: return the connection to the pool, or close it."""
        self.reader = None
        self.used = True
        self.body_parts = []
        if self.keep_alive and self.transport is not None and not self.transport.is_closing():
            self.pool.put(self)
        else:
            self.close()

    def close(self) -> None:
        """Close without a report to the reader; unsent bytes are dropped."""
        self.reader = None
        if self.transport is not None:
            self.transport.abort()
            self.transport = None

    def pause(self) -> None:
        """Stop reading: the client is slower than the pod."""
        if self.transport is not None and not self.paused:
            self.paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        if self.transport is not None and self.paused:
            self.paused = False
            self.transport.resume_reading()


class ConnectionPool:
    """Idle connections by pod, last in first out, so that surplus ones expire."""

    def __init__(self) -> None:
        self._idle: dict[str, list[UpstreamConnection]] = {}
        self.opened = 0

    def take(self, address: str) -> UpstreamConnection | None:
        """An idle connection to the pod, or None."""
        idle = self._idle.get(address)
        while idle:
            connection = idle.pop()
            if connection.transport is not None and not connection.transport.is_closing():
                return connection
        return None

    async def open(self, address: str, seconds: float = CONNECT_SECONDS) -> UpstreamConnection:
        """A new connection.

        Raises:
            OSError: no connection within ``seconds``.
        """
        host, port = split_address(address)
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(seconds):
            _, connection = await loop.create_connection(
                lambda: UpstreamConnection(self, address), host, port
            )
        self.opened += 1
        return connection

    def put(self, connection: UpstreamConnection) -> None:
        """Return a connection to the pool."""
        if connection.paused:
            connection.resume()
        connection.idle_since = time.monotonic()
        self._idle.setdefault(connection.address, []).append(connection)

    def forget(self, connection: UpstreamConnection) -> None:
        """Remove a closed connection."""
        idle = self._idle.get(connection.address)
        if idle and connection in idle:
            idle.remove(connection)

    def close_idle(self, before: float) -> None:
        """Close connections idle since before that monotonic time."""
        for address, idle in list(self._idle.items()):
            stale = [c for c in idle if c.idle_since < before]
            self._idle[address] = [c for c in idle if c.idle_since >= before]
            for connection in stale:
                connection.close()
            if not self._idle[address]:
                del self._idle[address]


def detect_lost_peer(sock: socket.socket) -> None:
    """Set TCP keep-alive, so that the kernel closes a connection whose peer is lost."""
    for level, name, value in _SOCKET_OPTIONS:
        option = getattr(socket, name, None)  # not every system has all of them
        if option is not None:
            sock.setsockopt(level, option, value)


def split_address(address: str) -> tuple[str, int]:
    """``host:port`` or ``[v6]:port`` as host and port.

    Raises:
        ValueError: no port, or it is not a number.
    """
    host, _, port = address.rpartition(":")
    if not host or not host.isascii() or not (port.isascii() and port.isdigit()):
        raise ValueError(f"address {address!r} must be host:port")
    if len(port) > 5 or not 0 < int(port) < 65536:
        raise ValueError(f"address {address!r}: the port must be from 1 to 65535")
    return host.strip("[]"), int(port)

"""Protocols between a client's connection and the exchange that produces the response.

The connection implements :class:`Reply`.  An exchange, a route and the gateway write through it and
import no connection, so a request can also come from a test, a batch file or mirrored traffic.
"""

from __future__ import annotations

from typing import Protocol

from r1_gateway.admission.reserved_returns import ReservedReturn
from r1_gateway.http.byte_budget import ByteBudget
from r1_gateway.http.errors import ApiError


class SharedState(Protocol):
    """State that all connections of one gateway share."""

    closing: bool
    """The process is stopping: each response ends its connection."""

    @property
    def budget(self) -> ByteBudget:
        """Bytes buffered for all requests."""


class ReplySource(Protocol):
    """The producer of a response, as the connection calls it back."""

    def client_gone(self) -> None:
        """The client closed its connection."""

    def pause(self) -> None:
        """The client reads more slowly than the response comes."""

    def resume(self) -> None:
        """The client has read what was buffered."""

    def enforce_timeouts(self, now: float) -> None:
        """End a request whose pod exceeds a timeout of the route."""

    def cut(self, error: ApiError) -> None:
        """End the request with ``error``, whatever was written before."""


class Reply(Protocol):
    """The client's side of one request at a time."""

    close_after: bool
    """Close the connection after this response."""
    exchange: ReplySource | None
    """The exchange in progress."""
    reserved_return: ReservedReturn | None
    """The place in a queue that the last 429 on this connection reserved."""

    @property
    def gateway(self) -> SharedState:
        """State that all connections share."""

    def write(self, data: bytes) -> None:
        """Write bytes of the response as they are."""

    def write_json(self, status: int, body: bytes, extra: bytes = b"") -> None:
        """Write a whole JSON response; ``extra`` holds header lines."""

    def write_error(self, error: ApiError, extra: bytes) -> None:
        """Write a whole error response; ``extra`` holds header lines."""

    def connection_header(self) -> bytes:
        """The ``Connection`` header line of this response, or nothing."""

    def exchange_done(self) -> None:
        """The response was written: read the next request, or close."""


class Connection(Reply, Protocol):
    """An open connection of a client, for the sweep of deadlines and the shutdown."""

    quiet_since: float
    """End of the last response, or start of the connection, in monotonic seconds."""
    refusing: bool
    """No further request is read."""

    @property
    def is_idle(self) -> bool:
        """No request is arriving, queued or in flight."""

    def check_deadlines(self, now: float) -> None:
        """Enforce the connection's deadline and the timeouts of its request."""

    def finish(self) -> None:
        """Close after the response has reached the client."""

    def abort(self) -> None:
        """Close at once."""

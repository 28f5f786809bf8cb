"""A client's connection: one request at a time, responses in order.

The connection is read while a request is in flight: on a paused socket a disconnect stays unnoticed.
Pipelined requests are parsed and kept, up to a bound.  Beyond it, input is dropped and the
connection closes after the outstanding responses.

Deadlines move with progress: a body that arrives at ``BODY_BYTES_PER_SECOND`` and a response that is
being read may take any time.  A request that is too slow gets a 408.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import struct
import termios
from collections import deque
from typing import cast

import httptools

from r1_gateway.admission.reserved_returns import ReservedReturn
from r1_gateway.gateway import Gateway
from r1_gateway.http.errors import ApiError, bad_request, overloaded
from r1_gateway.http.http_request import HttpRequest, body_too_large, check_head, origin_form
from r1_gateway.http.reply import ReplySource
from r1_gateway.http.response_head import error_response, json_response

logger = logging.getLogger(__name__)

HEAD_BYTES = 1 << 16
PIPELINED_REQUESTS = 16
PIPELINED_BYTES = 1 << 18
SMALL_HEAD_BYTES = 1 << 13
FIT_BYTES = 1 << 16
PIECES = 256
"""Pieces of a body that are joined at a time, and how often: each chunk of a few bytes costs a
microsecond of the event loop."""
MOST_JOINED = 256
# Longer than the idle timeout of load balancers (Google Cloud 600 s, AWS 60 s by default): a balancer
# may otherwise send a request into a connection that the gateway is closing.
IDLE_SECONDS = 620.0
HEAD_SECONDS = 10.0
BODY_SECONDS = 60.0
BODY_BYTES_PER_SECOND = 1024
STALL_SECONDS = 60.0
LINGER_SECONDS = 2.0
NEVER = float("inf")


class ClientConnection(asyncio.Protocol):
    """One accepted connection."""

    __slots__ = (
        "_begins", "_body", "_body_bytes", "_body_since", "_charged", "_head_bytes", "_headers",
        "_idle_bytes", "_in_head", "_joined", "_parser", "_request", "_target", "_unsent_bytes",
        "close_after", "deadline", "exchange", "gateway", "paused", "pipeline",
        "pipelined_bytes", "quiet_since", "refusing", "reserved_return", "transport",
    )  # fmt: skip

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.transport: asyncio.Transport | None = None
        self.exchange: ReplySource | None = None
        self.reserved_return: ReservedReturn | None = None
        self.pipeline: deque[HttpRequest | ApiError] = deque()
        self.pipelined_bytes = 0
        self.close_after = False
        self.refusing = False
        self.paused = False
        self.deadline = NEVER
        self._parser = httptools.HttpRequestParser(self)
        self._begins = False  # a head began, and its deadline is not set yet
        self._in_head = True
        self._head_bytes = 0
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._request: HttpRequest | None = None
        self._body: list[bytes] = []
        self._joined = 0  # number of leading pieces that are joined already
        self._body_bytes = 0
        self._body_since: float | None = None
        self._idle_bytes = 0  # since the body last grew: trailers, chunk extensions
        self._charged = 0
        self._unsent_bytes = 0
        self.quiet_since = 0.0
        """Monotonic time of the last response's end, or of the connection's start."""

    # -- transport callbacks -------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop registers no subclass
        self.gateway.clients.add(self)
        self.quiet_since = now = self.gateway.now()
        self.deadline = now + HEAD_SECONDS

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.gateway.clients.discard(self)
        self._forget_pipeline()
        self._release()
        if self.reserved_return is not None:
            self.reserved_return.detach()
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.client_gone()

    def data_received(self, data: bytes) -> None:
        if self.refusing:
            return
        body_bytes = self._body_bytes
        self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._read_past_upgrade(memoryview(data)[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            self._refuse(_explain(error))
        if self._in_head:
            if self._begins:
                self._begins = False
                if self.exchange is None and not self.refusing:
                    self.deadline = self.gateway.now() + HEAD_SECONDS
            if self._head_bytes > SMALL_HEAD_BYTES and not self.refusing:
                if self._head_bytes > HEAD_BYTES:
                    self._refuse(_HEAD_TOO_LARGE)
                elif not self._charge(self._head_bytes - self._charged):
                    self._refuse(_out_of_memory())
            return
        self._idle_bytes = self._idle_bytes + len(data) if self._body_bytes == body_bytes else 0
        if self._idle_bytes > HEAD_BYTES and not self.refusing:
            self._refuse(_HEAD_TOO_LARGE)
        elif self.exchange is None and self._request is not None:
            now = self.gateway.now()
            if self._body_since is None:
                self._body_since = now
            slowest = self._body_since + self._body_bytes / BODY_BYTES_PER_SECOND
            self.deadline = min(now + STALL_SECONDS, slowest + BODY_SECONDS)

    def _charge(self, count: int) -> bool:
        if not self.gateway.budget.take(count):
            return False
        self._charged += count
        return True

    def _release(self) -> None:
        """Drop the request that was arriving."""
        self.gateway.budget.give(self._charged)
        self._charged = 0
        self._body = []

    def _forget_pipeline(self) -> None:
        for waiting in self.pipeline:
            if isinstance(waiting, HttpRequest):
                self.gateway.budget.give(waiting.charged)
        self.pipeline.clear()

    def _read_past_upgrade(self, rest: memoryview) -> None:
        """Read on after a request with an ``Upgrade`` header; the next one may have it too."""
        try:
            self._decline_upgrade()
            while rest and not self.refusing:
                self._head_bytes += len(rest)
                try:
                    self._parser.feed_data(rest)
                    return
                except httptools.HttpParserUpgrade as upgrade:
                    rest = rest[upgrade.args[0] :]
                    self._decline_upgrade()
        except httptools.HttpParserError as error:
            self._refuse(_explain(error))

    def _decline_upgrade(self) -> None:
        """Parse the head again without its ``Upgrade`` (h2c, sent by Java's HTTP client).

        The parser treats every upgrade as accepted and would lose the body.
        """
        lines = [b"%s: %s\r\n" % field for field in self._headers if field[0] not in _UPGRADE]
        head = b"%s %s HTTP/%s\r\n%s\r\n" % (
            self._parser.get_method(),
            self._target,
            self._parser.get_http_version().encode(),
            b"".join(lines),
        )
        self._parser = httptools.HttpRequestParser(self)
        self._parser.feed_data(head)

    def pause_writing(self) -> None:
        self.paused = True
        self._unsent_bytes = self._count_unsent()
        self.deadline = self.gateway.now() + STALL_SECONDS
        if self.exchange is not None:
            self.exchange.pause()

    def resume_writing(self) -> None:
        self.paused = False
        self.deadline = NEVER
        if self.exchange is None:
            self.exchange_done()
        else:
            self.exchange.resume()

    # -- parser callbacks ----------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._in_head = True
        self._headers = []
        self._target = b""
        self._begins = True  # the clock is read only if the head comes in parts

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # trailers also come here, and are ignored
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        parser = self._parser
        headers = self._headers
        target = self._target
        first = dict(reversed(headers))  # the first of each name wins
        keep_alive = parser.should_keep_alive()
        if keep_alive and b"connection" not in first:  # only 1.1 stays open by default
            version = "1.1"
        else:
            version = parser.get_http_version()
            keep_alive = keep_alive and version == "1.1"
        request = HttpRequest(
            parser.get_method(),
            target if target.startswith(b"/") else origin_form(target),
            version,
            headers,
            first,
            keep_alive,
        )
        self._in_head = False
        self._body = []
        self._joined = 0
        self._body_bytes = 0
        self._idle_bytes = 0
        if request.method == b"CONNECT":
            raise ApiError(
                405,
                "invalid_request_error",
                "method_not_allowed",
                "CONNECT is not supported: send requests to this host directly",
                headers=b"allow: GET, POST, OPTIONS\r\n",
            )
        if self.refusing or parser.should_upgrade():
            return
        length = check_head(request, self.gateway.max_body_bytes)
        self._request = request
        if length is not None and length > FIT_BYTES and not self.gateway.budget.fits(length):
            raise _out_of_memory()
        self._body_since = None  # the clock is read only if the body comes later
        expect = request.header(b"expect")
        if expect is not None and length != 0:
            if expect.lower() != b"100-continue":
                raise ApiError(
                    417, "invalid_request_error", "expect", "Expect supports 100-continue only"
                )
            if self.exchange is None and not self.pipeline and self.transport is not None:
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        gateway, count = self.gateway, len(body)
        self._body_bytes += count
        if self._body_bytes > gateway.max_body_bytes:
            raise body_too_large(gateway.max_body_bytes)
        budget = gateway.budget  # as in _charge, inlined: on the path of each request
        used = budget.used + count
        if used > budget.limit:
            budget.rejected += 1
            raise _out_of_memory()
        budget.used = used
        self._charged += count
        pieces = self._body
        pieces.append(body)
        if len(pieces) >= self._joined + PIECES:  # small chunks: each object costs 40 bytes more
            pieces[self._joined :] = [b"".join(pieces[self._joined :])]
            self._joined += 1
            if self._joined > MOST_JOINED:
                raise _TOO_MANY_PIECES

    def on_message_complete(self) -> None:
        request, self._request = self._request, None
        self._head_bytes = 0
        self._in_head = True
        self._begins = False
        if request is None or self.refusing:
            return
        pieces, self._body = self._body, []
        request.body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        request.charged, self._charged = self._charged, 0
        if self.exchange is None and not self.pipeline and not self.paused:
            self._start(request)
            return
        self.pipeline.append(request)
        self.pipelined_bytes += len(request.body) + 256
        if len(self.pipeline) >= PIPELINED_REQUESTS or self.pipelined_bytes > PIPELINED_BYTES:
            self.refusing = True

    # -- responses -----------------------------------------------------------------------------

    def _start(self, request: HttpRequest) -> None:
        self.deadline = NEVER
        last = self.refusing and not self.pipeline
        closing = self.gateway.closing and not self.pipeline
        self.close_after = not request.keep_alive or closing or last
        try:
            self.gateway.serve(self, request)
        finally:  # with an exchange, the charge is the exchange's
            if request.charged:
                self.gateway.budget.give(request.charged)
                request.charged = 0

    def _refuse(self, error: ApiError) -> None:
        """Answer with ``error`` after the outstanding responses, and read no more."""
        self.refusing = True
        self._release()
        self._request = None
        if self.exchange is not None or self.pipeline:
            self.pipeline.append(error)
        else:
            self._refuse_now(error)

    def _refuse_now(self, error: ApiError) -> None:
        self.close_after = True
        request_id = self.gateway.request_id(dict(reversed(self._headers)))
        self.gateway.count_invalid(error, request_id)
        extra = b"x-request-id: %s\r\n%s" % (request_id, self.connection_header())
        self.write_error(error, extra)
        self._linger()

    def exchange_done(self) -> None:
        """The response was written: read the next request, wait, or close."""
        self.exchange = None
        if self.transport is None:
            return
        if self.close_after or (self.refusing and not self.pipeline):
            self._linger()
        elif self.pipeline:
            if self.paused:
                return
            request = self.pipeline.popleft()
            if isinstance(request, ApiError):
                self._refuse_now(request)
                return
            self.pipelined_bytes -= len(request.body) + 256
            self._start(request)
        elif not self.paused:
            self.quiet_since = now = self.gateway.now()
            self.deadline = now + (IDLE_SECONDS if self._request is None else STALL_SECONDS)

    def _linger(self) -> None:
        """Half-close and wait: with unread input, a close would reset the connection and lose data."""
        self.refusing = True
        self._forget_pipeline()
        transport = self.transport
        if transport is None:
            return
        if transport.can_write_eof():
            transport.write_eof()
            self._unsent_bytes = self._count_unsent()
            unsent = transport.get_write_buffer_size() > 0
            self.deadline = self.gateway.now() + (STALL_SECONDS if unsent else LINGER_SECONDS)
        else:
            transport.close()

    def connection_header(self) -> bytes:
        """The ``Connection`` header line of this response, or nothing."""
        if self.close_after or (self.gateway.closing and not self.pipeline):
            self.close_after = True
            return b"connection: close\r\n"
        return b""

    def write(self, data: bytes) -> None:
        """Write bytes as they are."""
        if self.transport is not None:
            self.transport.write(data)

    def write_json(self, status: int, body: bytes, extra: bytes = b"") -> None:
        """Write a whole JSON response."""
        self.write(json_response(status, body, extra))

    @property
    def is_idle(self) -> bool:
        """No request is arriving, queued or in flight."""
        return self.exchange is None and not self.pipeline and self._request is None

    def write_error(self, error: ApiError, extra: bytes) -> None:
        """Write a whole error response."""
        self.write(error_response(error, self.gateway.retry_after(error), extra))

    def finish(self) -> None:
        """Close an idle connection after its last response has reached the client."""
        self._linger()

    def check_deadlines(self, now: float) -> None:
        """Enforce the deadline and the timeouts of the request; called once a second."""
        if self.deadline <= now:
            self.overdue()
        elif self.exchange is not None:
            self.exchange.enforce_timeouts(now)

    def overdue(self) -> None:
        """The deadline passed: a slow request, a slow reader, an idle or a lingering connection."""
        if self.transport is None:
            return
        unsent = self._count_unsent()
        if unsent < self._unsent_bytes:  # slow, but reading
            self._unsent_bytes = unsent
            self.deadline = self.gateway.now() + STALL_SECONDS
        elif (
            self.exchange is None and not self.refusing and not self.paused and self._request_began
        ):
            self._refuse(_TOO_SLOW)
        else:
            self.transport.abort()

    def abort(self) -> None:
        """Close at once."""
        if self.transport is not None:
            self.transport.abort()

    @property
    def _request_began(self) -> bool:
        """A part of a request has arrived."""
        return self._request is not None or self._head_bytes > 0

    def _count_unsent(self) -> int:
        """Response bytes that the client has not acknowledged, the kernel's buffer included."""
        transport = self.transport
        if transport is None:
            return 0
        buffered = transport.get_write_buffer_size()
        try:
            descriptor = transport.get_extra_info("socket").fileno()
            response = fcntl.ioctl(descriptor, termios.TIOCOUTQ, b"\0\0\0\0")
        except (OSError, ValueError):
            return buffered
        return buffered + int(struct.unpack("i", response)[0])


_UPGRADE = frozenset((b"connection", b"upgrade", b"http2-settings"))


def _explain(error: httptools.HttpParserError) -> ApiError:
    cause = error.__context__
    if isinstance(cause, ApiError):
        return cause
    if isinstance(error, httptools.HttpParserCallbackError):
        logger.error("an exception in the gateway while it read a request", exc_info=cause)
        return ApiError(
            500,
            "server_error",
            "internal_error",
            "internal error of the gateway: its log has the traceback",
        )
    return bad_request(f"the request is not valid HTTP: {error}")


def _out_of_memory() -> ApiError:
    return overloaded("the gateway's byte budget (--max-buffered-bytes) is used up; retry later")


_TOO_SLOW = ApiError(
    408,
    "invalid_request_error",
    "request_timeout",
    f"the request arrived too slowly: send the head within {HEAD_SECONDS:g} s and the body at "
    f"{BODY_BYTES_PER_SECOND} bytes/s or more",
)
_TOO_MANY_PIECES = ApiError(
    413, "invalid_request_error", "too_many_chunks",
    f"the body has more than {PIECES * MOST_JOINED} chunks: use larger chunks",
)  # fmt: skip
_HEAD_TOO_LARGE = ApiError(
    431,
    "invalid_request_error",
    "head_too_large",
    f"the request head has more than {HEAD_BYTES} bytes: send fewer or shorter headers",
)

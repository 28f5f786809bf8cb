"""A client's connection: requests in, one at a time, answers out in order.

The connection is never paused while its request runs: a paused socket would hide that the client
has gone.  Requests that arrive early (pipelining) are parsed and kept, up to a bound; past it, input
is thrown away and the connection closes after the answers owed.

Deadlines move with progress: a body that keeps arriving at ``BODY_BYTES_PER_SECOND`` and an answer
that keeps being read may take as long as they need.  A request that is too slow gets a 408.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import struct
import termios
from collections import deque
from typing import TYPE_CHECKING, cast

import httptools

from r1_gateway.admission.reserved_returns import ReservedReturn
from r1_gateway.http.errors import ApiError, bad_request, overloaded
from r1_gateway.http.exchange import Exchange
from r1_gateway.http.http_request import HttpRequest, body_too_large, check_head, origin_form
from r1_gateway.http.response_head import error_answer, json_answer

if TYPE_CHECKING:
    from r1_gateway.gateway import Gateway

logger = logging.getLogger(__name__)

HEAD_BYTES = 1 << 16
PIPELINED_REQUESTS = 16
PIPELINED_BYTES = 1 << 18
SMALL_HEAD_BYTES = 1 << 13
FIT_BYTES = 1 << 16
PIECES = 256
"""Pieces of a body that are joined, and how often: a client that sends chunks of a few bytes takes
a microsecond of the event loop for each."""
MOST_JOINED = 256
# Longer than a balancer keeps an idle connection (Google Cloud's: 600 s, AWS's: 60 s by default), or
# it may send a request into a connection that is being closed here.
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
        "_begins", "_body", "_body_bytes", "_body_since", "_charged", "_head_bytes", "_headers", "_idle_bytes",
        "_in_head", "_joined", "_parser", "_request", "_target", "_unsent_bytes", "close_after", "deadline", "door",
        "exchange", "paused", "pipeline", "pipelined_bytes", "promise", "quiet_since", "refusing",
        "transport",
    )  # fmt: skip

    def __init__(self, door: Gateway) -> None:
        self.door = door
        self.transport: asyncio.Transport | None = None
        self.exchange: Exchange | None = None
        self.promise: ReservedReturn | None = None
        self.pipeline: deque[HttpRequest | ApiError] = deque()
        self.pipelined_bytes = 0
        self.close_after = False
        self.refusing = False
        self.paused = False
        self.deadline = NEVER
        self._parser = httptools.HttpRequestParser(self)
        self._begins = False  # a head began, and its time is not yet limited
        self._in_head = True
        self._head_bytes = 0
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._request: HttpRequest | None = None
        self._body: list[bytes] = []
        self._joined = 0  # the first pieces of the body, which are joined already
        self._body_bytes = 0
        self._body_since: float | None = None
        self._idle_bytes = 0  # since the body last grew: trailers, chunk extensions
        self._charged = 0
        self._unsent_bytes = 0
        self.quiet_since = 0.0
        """Monotonic time of the last answer's end, or of the connection's start."""

    # -- transport callbacks -------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop registers no subclass
        self.door.clients.add(self)
        self.quiet_since = now = self.door.now()
        self.deadline = now + HEAD_SECONDS

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.door.clients.discard(self)
        self._forget_pipeline()
        self._release()
        if self.promise is not None:
            self.promise.disown()
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
        except httptools.HttpParserUpgrade as offer:
            self._read_past_offer(memoryview(data)[offer.args[0] :])
        except httptools.HttpParserError as error:
            self._refuse(_explain(error))
        if self._in_head:
            if self._begins:
                self._begins = False
                if self.exchange is None and not self.refusing:
                    self.deadline = self.door.now() + HEAD_SECONDS
            if self._head_bytes > SMALL_HEAD_BYTES and not self.refusing:
                if self._head_bytes > HEAD_BYTES:
                    self._refuse(_HEAD_TOO_LARGE)
                elif not self._charge(self._head_bytes - self._charged):
                    self._refuse(_no_memory())
            return
        self._idle_bytes = self._idle_bytes + len(data) if self._body_bytes == body_bytes else 0
        if self._idle_bytes > HEAD_BYTES and not self.refusing:
            self._refuse(_HEAD_TOO_LARGE)
        elif self.exchange is None and self._request is not None:
            now = self.door.now()
            if self._body_since is None:
                self._body_since = now
            slowest = self._body_since + self._body_bytes / BODY_BYTES_PER_SECOND
            self.deadline = min(now + STALL_SECONDS, slowest + BODY_SECONDS)

    def _charge(self, count: int) -> bool:
        if not self.door.budget.take(count):
            return False
        self._charged += count
        return True

    def _release(self) -> None:
        """The request that was arriving is dropped."""
        self.door.budget.give(self._charged)
        self._charged = 0
        self._body = []

    def _forget_pipeline(self) -> None:
        for waiting in self.pipeline:
            if isinstance(waiting, HttpRequest):
                self.door.budget.give(waiting.charged)
        self.pipeline.clear()

    def _read_past_offer(self, rest: memoryview) -> None:
        """Read on after a request that offers another protocol; the next one may offer it too."""
        try:
            self._decline_upgrade()
            while rest and not self.refusing:
                self._head_bytes += len(rest)
                try:
                    self._parser.feed_data(rest)
                    return
                except httptools.HttpParserUpgrade as offer:
                    rest = rest[offer.args[0] :]
                    self._decline_upgrade()
        except httptools.HttpParserError as error:
            self._refuse(_explain(error))

    def _decline_upgrade(self) -> None:
        """Read the head again without its offer to change the protocol (h2c, from Java's client).

        The parser takes an offered upgrade for an accepted one and would lose the body.
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
        self.deadline = self.door.now() + STALL_SECONDS
        if self.exchange is not None and self.exchange.connection is not None:
            self.exchange.connection.pause()

    def resume_writing(self) -> None:
        self.paused = False
        self.deadline = NEVER
        if self.exchange is None:
            self.exchange_done()
        elif self.exchange.connection is not None:
            self.exchange.connection.resume()

    # -- parser callbacks ----------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._in_head = True
        self._headers = []
        self._target = b""
        self._begins = True  # the clock is read only if the head comes in parts

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # trailers also come here: nobody reads them
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        parser = self._parser
        headers = self._headers
        target = self._target
        first = dict(reversed(headers))  # the first of each name wins
        keep_alive = parser.should_keep_alive()
        if keep_alive and b"connection" not in first:  # only 1.1 stays open without being asked
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
                "no tunnels here",
                headers=b"allow: GET, POST, OPTIONS\r\n",
            )
        if self.refusing or parser.should_upgrade():
            return
        length = check_head(request, self.door.max_body_bytes)
        self._request = request
        if length is not None and length > FIT_BYTES and not self.door.budget.fits(length):
            raise _no_memory()
        self._body_since = None  # the clock is read only if the body comes later
        expect = request.header(b"expect")
        if expect is not None and length != 0:
            if expect.lower() != b"100-continue":
                raise ApiError(417, "invalid_request_error", "expect", "unknown expectation")
            if self.exchange is None and not self.pipeline and self.transport is not None:
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        door, count = self.door, len(body)
        self._body_bytes += count
        if self._body_bytes > door.max_body_bytes:
            raise body_too_large(door.max_body_bytes)
        budget = door.budget  # as in _charge, without its calls: each request comes here
        used = budget.used + count
        if used > budget.limit:
            budget.refused += 1
            raise _no_memory()
        budget.used = used
        self._charged += count
        pieces = self._body
        pieces.append(body)
        if len(pieces) >= self._joined + PIECES:  # chunks of a few bytes: each object takes 40 more
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

    # -- answering -----------------------------------------------------------------------------

    def _start(self, request: HttpRequest) -> None:
        self.deadline = NEVER
        last = self.refusing and not self.pipeline
        closing = self.door.closing and not self.pipeline
        self.close_after = not request.keep_alive or closing or last
        try:
            self.door.serve(self, request)
        finally:  # an exchange has taken the charge over
            if request.charged:
                self.door.budget.give(request.charged)
                request.charged = 0

    def _refuse(self, error: ApiError) -> None:
        """Answer ``error`` after what is owed, and read nothing more."""
        self.refusing = True
        self._release()
        self._request = None
        if self.exchange is not None or self.pipeline:
            self.pipeline.append(error)
        else:
            self._refuse_now(error)

    def _refuse_now(self, error: ApiError) -> None:
        self.close_after = True
        request_id = self.door.request_id(dict(reversed(self._headers)))
        self.door.refuse(error, request_id)
        extra = b"x-request-id: %s\r\n%s" % (request_id, self.connection_header())
        self.write_error(error, extra)
        self._linger()

    def exchange_done(self) -> None:
        """The answer was written: on with the next request, or wait, or close."""
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
            self.quiet_since = now = self.door.now()
            self.deadline = now + (IDLE_SECONDS if self._request is None else STALL_SECONDS)

    def _linger(self) -> None:
        """Close so that the answer survives: unread input would make the kernel reset it away."""
        self.refusing = True
        self._forget_pipeline()
        transport = self.transport
        if transport is None:
            return
        if transport.can_write_eof():
            transport.write_eof()
            self._unsent_bytes = self._count_unsent()
            unsent = transport.get_write_buffer_size() > 0
            self.deadline = self.door.now() + (STALL_SECONDS if unsent else LINGER_SECONDS)
        else:
            transport.close()

    def connection_header(self) -> bytes:
        """The header line that tells the client whether the connection stays."""
        if self.close_after or (self.door.closing and not self.pipeline):
            self.close_after = True
            return b"connection: close\r\n"
        return b""

    def write(self, data: bytes) -> None:
        """Write bytes as they are."""
        if self.transport is not None:
            self.transport.write(data)

    def write_json(self, status: int, body: bytes, extra: bytes = b"") -> None:
        """Write a whole JSON answer."""
        self.write(json_answer(status, body, extra))

    @property
    def is_idle(self) -> bool:
        """Nothing was asked that is not answered."""
        return self.exchange is None and not self.pipeline and self._request is None

    def write_error(self, error: ApiError, extra: bytes) -> None:
        """Write a whole error answer."""
        self.write(error_answer(error, self.door.retry_after(error), extra))

    def finish(self) -> None:
        """Close an idle connection as politely as HTTP allows."""
        self._linger()

    def look_at_time(self, now: float) -> None:
        """Enforce the connection's deadline and the limits of its request; called every second."""
        if self.deadline <= now:
            self.overdue()
        elif self.exchange is not None:
            self.exchange.enforce_timeouts(now)

    def overdue(self) -> None:
        """The deadline passed: too slow, idle for too long, or done lingering."""
        if self.transport is None:
            return
        unsent = self._count_unsent()
        if unsent < self._unsent_bytes:  # slow, but reading
            self._unsent_bytes = unsent
            self.deadline = self.door.now() + STALL_SECONDS
        elif self.exchange is None and not self.refusing and not self.paused and self._has_begun:
            self._refuse(_TOO_SLOW)
        else:
            self.transport.abort()

    def abort(self) -> None:
        """Close at once."""
        if self.transport is not None:
            self.transport.abort()

    @property
    def _has_begun(self) -> bool:
        """A part of a request came."""
        return self._request is not None or self._head_bytes > 0

    def _count_unsent(self) -> int:
        """Bytes of answers that the client has not acknowledged, the kernel's buffer included."""
        transport = self.transport
        if transport is None:
            return 0
        buffered = transport.get_write_buffer_size()
        try:
            descriptor = transport.get_extra_info("socket").fileno()
            answer = fcntl.ioctl(descriptor, termios.TIOCOUTQ, b"\0\0\0\0")
        except (OSError, ValueError):
            return buffered
        return buffered + int(struct.unpack("i", answer)[0])


_UPGRADE = frozenset((b"connection", b"upgrade", b"http2-settings"))


def _explain(error: httptools.HttpParserError) -> ApiError:
    cause = error.__context__
    if isinstance(cause, ApiError):
        return cause
    if isinstance(error, httptools.HttpParserCallbackError):
        logger.error("a request broke the gateway's own code", exc_info=cause)
        return ApiError(500, "server_error", "internal_error", "the gateway failed; see its log")
    return bad_request(f"not valid HTTP: {error}")


def _no_memory() -> ApiError:
    return overloaded("the requests under way take all of the gateway's memory")


_TOO_SLOW = ApiError(
    408, "invalid_request_error", "request_timeout", "the request arrived too slowly"
)
_TOO_MANY_PIECES = ApiError(
    413, "invalid_request_error", "too_many_chunks",
    f"the body came in more than {PIECES * MOST_JOINED} pieces: use larger chunks",
)  # fmt: skip
_HEAD_TOO_LARGE = ApiError(
    431, "invalid_request_error", "head_too_large", f"the head is larger than {HEAD_BYTES} bytes"
)

"""A request on a route: wait for a seat, send to a pod, relay the response, free the seat once.

The response is relayed byte for byte: chunks of a stream are not joined, split or delayed, and only
the head gets more lines.  A response that is no event stream is buffered until it is complete (up to
``BUFFER_BYTES``), so a pod that dies half-way yields a 502 and not half a JSON document.

Retries, never after a byte has reached the client:

- no connection to the pod: until the queue timeout, at the pace of the circuit breaker;
- an idle connection that the pod had closed: once, same pod, new connection;
- a pod that died before the head of its response, or answered 503 with Retry-After: once, another pod;
- 429, or 503 without Retry-After: once, if another pod has a free seat; else relayed.

The last three share one retry, so a generation is started at most twice.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import time

from r1_gateway.admission.endpoint_pool import Breaker, Endpoint
from r1_gateway.http.errors import ApiError, bad_gateway, deadline_exceeded, overloaded
from r1_gateway.http.http_request import build_upstream_head
from r1_gateway.http.response_head import (
    HeadFacts,
    edit_head,
    is_failure,
    read_head,
    stream_headers,
)
from r1_gateway.http.stream_reader import StreamReader, event_after, plain_usage
from r1_gateway.http.upstream import UpstreamConnection
from r1_gateway.routes.attempt import Attempt
from r1_gateway.routes.pod_timeouts import exceeded_timeout
from r1_gateway.routes.route import CLIENT_CLOSED
from r1_gateway.routes.routed_request import CLASS_BYTES, RoutedRequest

logger = logging.getLogger(__name__)

# A connection that the pod had closed fails within a round trip of sending; later, the pod failed.
STALE_SECONDS = 0.1
BUFFER_BYTES = 1 << 20
SMALL_BYTES = 1 << 12  # a request up to this size is kept until its response ends
HEAD_BYTES = 1 << 16
PARTS = 16
"""Parts of a stream that are read together after the first token, and their size."""
PART_BYTES = 1 << 13
REFUSALS = (429, 503)
# Shortage of descriptors, ports or buffers in the gateway: no failure of the pod.
_LOCAL_ERRORS = frozenset(
    (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL)
)


class Exchange(RoutedRequest):
    """A request of a route, from its arrival to the last byte of its response."""

    __slots__ = (
        "active", "active_at", "connecting", "connection", "deadline_timer", "facts", "last_bytes",
        "replayed", "wrote",
    )  # fmt: skip

    def prepare(self) -> None:
        """Set the attributes that belong to the pod's side."""
        self.connection: UpstreamConnection | None = None
        self.connecting: asyncio.Task[None] | None = None
        self.facts: HeadFacts | None = None
        self.last_bytes = b""
        self.replayed = False
        self.wrote = False
        self.active = False
        """Bytes of the response came since the last check of the timeouts."""
        self.active_at = self.arrived
        self.deadline_timer: asyncio.TimerHandle | None = None

    # -- sending to a pod ----------------------------------------------------------------------

    def begin(self, now: float) -> None:
        """A seat was assigned (``ticket.endpoint``): send the request to that pod."""
        assert self.ticket is not None  # noqa: S101
        assert self.ticket.endpoint is not None  # noqa: S101
        if self.queue_seconds is None:
            self.queue_seconds = now - self.arrived
            self.route.stats.queue_wait[self.klass].observe(self.queue_seconds)
            if self.deadline is not None:
                loop = asyncio.get_running_loop()
                self.deadline_timer = loop.call_later(self.deadline - now, self._deadline_passed)
        endpoint = self.ticket.endpoint
        address = endpoint.address
        before = self.attempt
        self.attempt = Attempt(address, now, 1 if before is None else before.number + 1)
        connection = None
        if (
            endpoint.breaker is not Breaker.UNREACHABLE
        ):  # else only a new connection proves that the pod is reachable
            connection = self.route.connections.take(address)
        if connection is not None:
            self._send(connection)
        else:
            self._connect(address)

    def _connect(self, address: str) -> None:
        self.connecting = asyncio.get_running_loop().create_task(self._open(address))

    async def _open(self, address: str) -> None:
        try:
            seconds = self.route.spec.timeouts.connect_seconds
            connection = await self.route.connections.open(address, seconds)
        except Exception as error:  # noqa: BLE001 - any failure must free the seat
            self.connecting = None
            problem = str(error) or type(error).__name__
            if isinstance(error, OSError) and error.errno in _LOCAL_ERRORS:
                logger.error(
                    "request %s: the gateway cannot open a connection: %s", self.name, problem
                )
                self.fail(overloaded(f"the gateway cannot open a connection to a pod: {problem}"))
            else:
                self._unreachable(problem)
            return
        self.connecting = None
        ticket = self.ticket
        if ticket is None or ticket.endpoint is None:
            connection.close()
            return
        recovered = ticket.endpoint.breaker is Breaker.UNREACHABLE
        self.route.admission.pool.connected(ticket.endpoint)
        self._send(connection)
        if recovered:
            self.route.dispatch()

    def _send(self, connection: UpstreamConnection) -> None:
        self.connection = connection
        connection.send(
            self,
            build_upstream_head(
                self.request,
                connection.address,
                len(self.body),
                self.request_id,
                CLASS_BYTES[self.klass],
                forward_key=self.forward_key,
            ),
            self.body,
        )
        connection.keep_parts = self.request.version == "1.0"

    def _unreachable(self, problem: str) -> None:
        ticket = self.ticket
        assert ticket is not None and ticket.endpoint is not None  # noqa: S101, PT018
        route = self.route
        route.pod_failed(ticket.endpoint, f"no connection: {problem}", unreachable=True)
        logger.warning("request %s of %s: %s", self.name, route.spec.key, route.last_failure)
        route.stats.retries["ConnectFailed"] += 1
        route.admission.retry(ticket)
        route.dispatch()

    def _try_again(self, reason: str, *, avoid: str | None) -> None:
        assert self.ticket is not None  # noqa: S101
        self.replayed = True
        self.buffered = bytearray()
        self.facts = None
        route = self.route
        route.stats.retries[reason] += 1
        deadline = time.monotonic() + route.spec.policies[self.klass].max_queue_seconds
        if self.deadline is not None:
            deadline = min(deadline, self.deadline)
        route.admission.retry(self.ticket, avoid=avoid, deadline=deadline)
        route.dispatch()

    # -- the pod's response --------------------------------------------------------------------

    def upstream_bytes(self, data: bytes) -> None:
        """Relay bytes of the response, already framed by the connection."""
        connection = self.connection
        assert connection is not None  # noqa: S101
        self.active = True
        head = b""
        if self.facts is None:
            parts = self._take_head(connection, data)
            if parts is None:
                return
            head, data = parts
        reader = self.reader
        if reader is not None:
            if (
                not reader.first_token
                or len(connection.body_parts) >= PARTS
                or len(data) > PART_BYTES
                or connection.keep_parts
            ):
                data = self._read_parts(connection, reader, data)
            if data:
                self.last_bytes = data
        elif connection.keep_parts:
            data = connection.take_parts()
        buffered = self.buffered
        if buffered is not None and connection.complete and not buffered:
            self.last_bytes = data
            self.wrote = True
            self.reply.write(head + data)
        elif buffered is not None:
            buffered += head
            buffered += data
            if not connection.complete and (
                len(buffered) > BUFFER_BYTES or not self.charge_bytes(len(data))
            ):
                self.buffered = None
                self.wrote = True
                self.reply.write(bytes(buffered))
                self.reader = StreamReader(is_event_stream=False)
                self.reader.feed(bytes(buffered))
                connection.collect = True
        else:
            self.wrote = True
            self.reply.write(head + data if head else data)
        if connection.complete:
            self._complete(connection)

    def _take_head(self, connection: UpstreamConnection, data: bytes) -> tuple[bytes, bytes] | None:
        """The head for the client and the bytes after it; None while the head is incomplete."""
        buffered = self.buffered
        assert buffered is not None  # noqa: S101
        if buffered or not connection.head_complete:
            buffered += data
            data = bytes(buffered)
        if not connection.head_complete:
            if len(data) > HEAD_BYTES:
                connection.fail(f"the head of the response has more than {HEAD_BYTES} bytes")
            return None
        while connection.interim_heads:  # 1xx responses are not relayed
            data = data[data.index(b"\r\n\r\n") + 4 :]
            connection.interim_heads -= 1
        end = data.find(b"\r\n\r\n") + 4
        if end < 4:
            connection.fail("the response is not HTTP")
            return None
        head = data[:end]
        facts = read_head(head)
        ticket = self.ticket
        assert ticket is not None and ticket.endpoint is not None  # noqa: S101, PT018
        status = connection.status
        if status < 429 or (status < 500 and status != 429):  # as is_failure
            self.route.admission.pool.response_started(ticket.endpoint)
        elif self._rejected_by_pod(connection, facts):
            return None
        self.facts = facts
        if self.charged > SMALL_BYTES:
            self.release()
        self.status = status
        length = facts.content_length
        dechunk = connection.keep_parts and facts.is_chunked
        if (length is None and facts.ends_at_close) or dechunk:
            self.reply.close_after = True
        self.stream = facts.is_event_stream
        streamed = facts.is_event_stream or (length is not None and length > BUFFER_BYTES)
        connection.collect = streamed or connection.keep_parts
        if connection.body_parts and not connection.collect:
            connection.body_parts = []
        if streamed:
            self.buffered = None
            self.reader = StreamReader(is_event_stream=facts.is_event_stream)
        elif buffered:
            buffered.clear()
        extra = self.response_headers()
        if facts.is_event_stream:
            extra += stream_headers(facts)
        return edit_head(head, facts, extra, dechunk=dechunk), data[end:]

    def _rejected_by_pod(self, connection: UpstreamConnection, facts: HeadFacts) -> bool:
        """Count a response of 429 or 5xx; True when the request is retried on another pod.

        A pod that drains (503 with Retry-After) gets no requests for that time.
        """
        route, ticket = self.route, self.ticket
        assert ticket is not None and ticket.endpoint is not None  # noqa: S101, PT018
        endpoint, pool = ticket.endpoint, route.admission.pool
        avoid = {endpoint.address}
        seconds = facts.header(b"retry-after") if connection.status == 503 else None
        if seconds is not None and seconds.isdigit():
            pool.pause(endpoint, time.monotonic(), max(float(seconds), 0.1))
            elsewhere = pool.has_other(avoid)
        else:
            route.pod_failed(endpoint, f"HTTP {connection.status}")
            if connection.status not in REFUSALS:
                return False
            if pool.choose(time.monotonic(), ticket.avoid | avoid, ticket.width) is None:
                return False
            elsewhere = True
        if self.replayed:
            return False
        self._drop_connection()
        self._try_again("PodRefused", avoid=endpoint.address if elsewhere else None)
        return True

    def _read_parts(
        self, connection: UpstreamConnection, reader: StreamReader, data: bytes
    ) -> bytes:
        """Find the first token and the token counts; return the bytes for the client."""
        body = connection.take_parts()
        if body and reader.feed(body):
            now = time.monotonic()
            if self.attempt is not None:
                self.attempt.first_token_at = now
            self.route.first_token(self.klass, now - self.arrived)
        return body if connection.keep_parts else data

    def _complete(self, connection: UpstreamConnection) -> None:
        tail = self.last_bytes
        if self.buffered:
            tail = bytes(self.buffered)
            self.wrote = True
            self.reply.write(tail)
        status, ticket, reader = self.status, self.ticket, self.reader
        assert ticket is not None and ticket.endpoint is not None  # noqa: S101, PT018
        if status < 429 or (status < 500 and status != 429):  # as is_failure
            if reader is not None:
                self._count_stream(connection, reader, ticket.endpoint)
            else:
                if ticket.endpoint.outcomes.consecutive:
                    self.route.admission.pool.completed(ticket.endpoint)
                prompt, tokens = plain_usage(tail)
                if tokens is not None:
                    self.route.stats.generated(self.klass, tokens)
                    attempt = self.attempt
                    if attempt is not None:
                        attempt.input_tokens, attempt.output_tokens = prompt, tokens
        self.connection = None
        connection.done()
        self._end()

    def _count_stream(
        self, connection: UpstreamConnection, reader: StreamReader, endpoint: Endpoint
    ) -> None:
        """Count the tokens of a complete stream, and its pod's outcome."""
        route = self.route
        self._read_parts(connection, reader, b"")
        if reader.error and not reader.first_token:
            route.pod_failed(endpoint, "the stream contained only an error", after_head=True)
        else:
            route.admission.pool.completed(endpoint)
        tokens = reader.completion_tokens()
        if tokens is None and reader.events > 1:
            tokens = reader.events - 1  # the last one is the end mark
        if tokens is None:
            return
        route.stats.generated(self.klass, tokens)
        attempt = self.attempt
        assert attempt is not None  # noqa: S101 - set when the request got its seat
        attempt.input_tokens, attempt.output_tokens = reader.prompt_tokens(), tokens
        first, each = attempt.first_token_at, tokens / self.width
        if first is not None and each > 1.0:
            seconds = (time.monotonic() - first) / (each - 1.0)
            route.stats.time_per_output_token[self.klass].observe(seconds)

    def upstream_lost(self, reason: str) -> None:
        """The connection to the pod ended before the response was complete."""
        connection, self.connection = self.connection, None
        facts = self.facts
        ticket = self.ticket
        if connection is None or ticket is None or ticket.endpoint is None:
            return
        if facts is not None and facts.ends_at_close and connection.head_complete:
            if self.buffered is not None:
                self.wrote = True
                self.reply.write(bytes(self.buffered))
            self._end()
            return
        pool = self.route.admission.pool
        endpoint = ticket.endpoint
        # A reused connection gets the request at the start of the ticket.
        stale = connection.used and time.monotonic() - ticket.started <= STALE_SECONDS
        if facts is None and stale and not self.replayed and not self.buffered:
            self.replayed = True
            self.route.stats.retries["StaleConnection"] += 1
            self._connect(endpoint.address)
            return
        if facts is None or not is_failure(self.status):
            self.route.pod_failed(endpoint, reason, after_head=facts is not None)
        logger.warning(
            "request %s of %s failed on pod %s: %s",
            self.name,
            self.route.spec.key,
            endpoint.address,
            reason,
        )
        if facts is None and not self.replayed and pool.has_other({endpoint.address}):
            self._try_again("PodDied", avoid=endpoint.address)
            return
        error = bad_gateway(
            "pod_died", f"the model pod failed during the request: {reason}; retry the request"
        )
        if self.wrote:
            self._break_stream(connection, error)
        else:
            self.fail(error)

    def _break_stream(self, connection: UpstreamConnection, error: ApiError) -> None:
        """Send an error event if the framing allows one, then close without an end mark."""
        facts = self.facts
        assert facts is not None  # noqa: S101
        self.status, self.cause = error.status, error.code
        if facts.is_event_stream:
            sent = self.last_bytes
            if connection.keep_parts:
                self.reply.write(event_after(sent, error.event()))
            elif (
                facts.is_chunked
                and sent[-2:] in (b"", b"\r\n")
                and not connection.complete
                and connection.is_between_chunks()
            ):
                event = event_after(sent[:-2], error.event())
                self.reply.write(b"%x\r\n%s\r\n" % (len(event), event))
        self.reply.close_after = True
        self._end()

    # -- the end -------------------------------------------------------------------------------

    def enforce_timeouts(self, now: float) -> None:
        """End a request whose pod exceeds a timeout of the route; called about once a second."""
        ticket, connection = self.ticket, self.connection
        if ticket is None or ticket.endpoint is None or connection is None:
            return  # queued or connecting: these have their own limits
        if self.active or connection.paused:  # paused: a slow client blocks the pod
            self.active = False
            self.active_at = now
        problem = exceeded_timeout(
            self.route.spec.timeouts,
            now - self.arrived - (self.queue_seconds or 0.0),
            now - ticket.started if self.facts is None else None,
            now - self.active_at,
        )
        if problem is None:
            return
        address = ticket.endpoint.address
        self.route.pod_failed(ticket.endpoint, problem, after_head=self.facts is not None)
        logger.warning(
            "request %s of %s failed on pod %s: %s",
            self.name,
            self.route.spec.key,
            address,
            problem,
        )
        self.cut(
            ApiError(504, "timeout_error", "pod_timeout", f"the model pod timed out: {problem}")
        )

    def _deadline_passed(self) -> None:
        """The client's deadline passed in flight; in the queue, the queue expires the request."""
        self.deadline_timer = None
        if self.ticket is not None and self.ticket.endpoint is not None:
            self.cut(deadline_exceeded("the deadline passed before the response was complete"))

    def _clean_up(self) -> None:
        """Drop everything of the ended request."""
        self.drop_bytes()
        if self.deadline_timer is not None:
            self.deadline_timer.cancel()
            self.deadline_timer = None

    def fail(self, error: ApiError) -> None:
        """Answer with a gateway error; no byte of a response was written before."""
        self._drop_connection()
        self.status, self.cause = error.status, error.code
        self.reply.write_error(error, self.response_headers())
        self._end()

    def expired(self, now: float) -> None:
        """The queue timeout or the deadline passed; the ticket is out of the queue."""
        self.queue_seconds = now - self.arrived
        self.fail_queued(self.route.expiry_error(self, now))

    def fail_queued(self, error: ApiError) -> None:
        """Answer with a gateway error that is counted already; the request has no ticket."""
        self.ticket = None
        self.status, self.cause = error.status, error.code
        self.reply.write_error(error, self.response_headers())
        self._end()

    def cut(self, error: ApiError) -> None:
        """End the request with ``error``, whatever was written before."""
        connection = self.connection
        if connection is None or not self.wrote:
            self.fail(error)
        else:
            self._drop_connection()
            self._break_stream(connection, error)

    def client_gone(self) -> None:
        """The client closed its connection: free the seat and stop the pod's generation."""
        if self.connection is not None and self.reader is not None:
            self._read_parts(self.connection, self.reader, b"")
        self.status, self.cause = CLIENT_CLOSED, "client_closed"
        self._drop_connection()
        self._clean_up()
        ticket, self.ticket = self.ticket, None
        if ticket is not None:
            self.route.cancelled(self, ticket)

    def pause(self) -> None:
        """Stop reading from the pod: the client reads more slowly than the pod writes."""
        if self.connection is not None:
            self.connection.pause()

    def resume(self) -> None:
        """Read from the pod again."""
        if self.connection is not None:
            self.connection.resume()

    def _drop_connection(self) -> None:
        if self.connecting is not None:
            self.connecting.cancel()
            self.connecting = None
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.close()

    def _end(self) -> None:
        self._clean_up()
        ticket, self.ticket = self.ticket, None
        self.route.ended(self, ticket)
        self.reply.exchange_done()

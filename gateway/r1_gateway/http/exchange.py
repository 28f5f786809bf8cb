"""One request's life: wait for a seat, ask a pod, relay the answer, give the seat back once.

Bytes of the answer are relayed as they came, so a stream's chunks are neither joined, split nor
held; only the head gets a few lines.  An answer that is not an event stream is held until it is
complete (up to ``HOLD_BYTES``), so that a pod that dies half-way yields a 502 and not half a JSON.

What is tried again, and when (never after a byte reached the client):

- no connection to the pod: as often as the queue's patience allows, the breaker picks the pace;
- a kept connection that the pod had closed meanwhile: once, same pod, new connection;
- a pod that died before its head, or answered 503 with Retry-After: once, another pod;
- 429, or 503 without Retry-After: once, if another pod has free seats; else it is the answer.

The last three share one budget, so a generation is started at most twice.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import time
from typing import TYPE_CHECKING

from r1_gateway.admission.admission_queue import Ticket
from r1_gateway.admission.classes import PriorityClass
from r1_gateway.admission.endpoint_pool import Breaker, Endpoint
from r1_gateway.http.errors import ApiError, bad_gateway, deadline_exceeded, overloaded
from r1_gateway.http.http_request import HttpRequest, build_upstream_head
from r1_gateway.http.response_head import (
    CROSS_ORIGIN,
    HeadFacts,
    edit_head,
    is_failure,
    read_head,
    stream_headers,
)
from r1_gateway.http.stream_reader import StreamReader, event_after, plain_completion_tokens
from r1_gateway.http.upstream import UpstreamConnection

if TYPE_CHECKING:
    from r1_gateway.http.client_connection import ClientConnection
    from r1_gateway.routes.route import Route

logger = logging.getLogger(__name__)

# A connection that the pod had closed breaks within a round trip of sending; later, the pod failed.
STALE_SECONDS = 0.1
HOLD_BYTES = 1 << 20
SMALL_BYTES = 1 << 12  # a request of so many bytes may stay until its answer ends
HEAD_BYTES = 1 << 16
PARTS = 16
"""Parts of a stream that are read together once the first token has come, and how long they are."""
PART_BYTES = 1 << 13
IDENTITY_BYTES = 4096
REFUSALS = (429, 503)
# The gateway's own shortage of descriptors, ports or buffers: no pod's fault.
_LOCAL_ERRORS = frozenset(
    (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL)
)
_WITH_ORIGIN = {b"origin": b""}
_NOTHING: dict[bytes, bytes] = {}
_NO_HEADERS: list[tuple[bytes, bytes]] = []


class Exchange:
    """A request that was admitted to a route, from its arrival to its last byte."""

    __slots__ = (
        "active",
        "active_at",
        "arrived",
        "body",
        "charged",
        "client",
        "client_deadline",
        "connecting",
        "connection",
        "facts",
        "first_token_at",
        "forward_key",
        "give_up_at",
        "held",
        "klass",
        "last_bytes",
        "queue_seconds",
        "reader",
        "replayed",
        "request",
        "request_id",
        "route",
        "status",
        "stream",
        "ticket",
        "width",
        "wrote",
    )  # fmt: skip

    def __init__(
        self,
        route: Route,
        client: ClientConnection,
        request: HttpRequest,
        body: bytes,
        klass: PriorityClass,
        request_id: bytes,
        stream: bool,
        forward_key: bool,
        now: float,
        patience: float | None,
        width: int = 1,
    ) -> None:
        self.route = route
        self.client = client
        self.request = request
        self.body = body
        self.charged, request.charged = request.charged, 0
        self.klass = klass
        self.request_id = request_id
        self.stream = stream
        self.forward_key = forward_key
        self.arrived = now
        self.give_up_at = None if patience is None else now + patience
        self.ticket: Ticket[Exchange] | None = None
        self.connection: UpstreamConnection | None = None
        self.connecting: asyncio.Task[None] | None = None
        self.facts: HeadFacts | None = None
        self.held: bytearray | None = bytearray()
        self.last_bytes = b""
        self.reader: StreamReader | None = None
        self.width = width
        self.queue_seconds: float | None = None
        self.first_token_at: float | None = None
        self.replayed = False
        self.status = 0
        self.wrote = False
        self.active = False
        """Bytes of the answer came since the last look."""
        self.active_at = now
        self.client_deadline: asyncio.TimerHandle | None = None

    # -- asking a pod --------------------------------------------------------------------------

    def begin(self, now: float) -> None:
        """A seat was given (``ticket.endpoint``): ask that pod."""
        assert self.ticket is not None  # noqa: S101
        assert self.ticket.endpoint is not None  # noqa: S101
        if self.queue_seconds is None:
            self.queue_seconds = now - self.arrived
            self.route.tally.queue_wait[self.klass].observe(self.queue_seconds)
            if self.give_up_at is not None:
                loop = asyncio.get_running_loop()
                self.client_deadline = loop.call_later(self.give_up_at - now, self._deadline_passed)
        endpoint = self.ticket.endpoint
        address = endpoint.address
        connection = None
        if endpoint.breaker is not Breaker.UNREACHABLE:  # else only a new connection is a proof
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
        except Exception as error:  # noqa: BLE001 - whatever it was, the seat has to be freed
            self.connecting = None
            problem = str(error) or type(error).__name__
            if isinstance(error, OSError) and error.errno in _LOCAL_ERRORS:
                logger.error("request %s: no connection: %s", self.name, problem)
                self.fail(overloaded(f"the gateway cannot open a connection: {problem}"))
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
            self.route.pump()

    def _send(self, connection: UpstreamConnection) -> None:
        self.connection = connection
        connection.send(
            self,
            build_upstream_head(
                self.request,
                connection.address,
                len(self.body),
                self.request_id,
                _CLASS_BYTES[self.klass],
                forward_key=self.forward_key,
            ),
            self.body,
        )
        connection.keep_parts = self.request.version == "1.0"

    def _unreachable(self, why: str) -> None:
        ticket = self.ticket
        assert ticket is not None and ticket.endpoint is not None  # noqa: S101, PT018
        route = self.route
        route.pod_failed(ticket.endpoint, why, unreachable=True)
        logger.warning("request %s of %s: %s", self.name, route.spec.key, route.last_trouble)
        route.tally.retries["ConnectFailed"] += 1
        route.admission.retry(ticket)
        route.pump()

    def _try_again(self, reason: str, *, avoid: str | None) -> None:
        assert self.ticket is not None  # noqa: S101
        self.replayed = True
        self.held = bytearray()
        self.facts = None
        route = self.route
        route.tally.retries[reason] += 1
        deadline = time.monotonic() + route.spec.policies[self.klass].max_queue_seconds
        if self.give_up_at is not None:
            deadline = min(deadline, self.give_up_at)
        route.admission.retry(self.ticket, avoid=avoid, deadline=deadline)
        route.pump()

    # -- the pod's answer ----------------------------------------------------------------------

    def upstream_bytes(self, data: bytes) -> None:
        """Bytes of the answer, already framed by the connection."""
        connection = self.connection
        assert connection is not None  # noqa: S101
        self.active = True
        head = b""
        if self.facts is None:
            found = self._take_head(connection, data)
            if found is None:
                return
            head, data = found
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
        held = self.held
        if held is not None and connection.complete and not held:
            self.last_bytes = data
            self.wrote = True
            self.client.write(head + data)
        elif held is not None:
            held += head
            held += data
            if not connection.complete and (len(held) > HOLD_BYTES or not self._charge(len(data))):
                self.held = None
                self.wrote = True
                self.client.write(bytes(held))
                self.reader = StreamReader(is_event_stream=False)
                self.reader.feed(bytes(held))
                connection.collect = True
        else:
            self.wrote = True
            self.client.write(head + data if head else data)
        if connection.complete:
            self._complete(connection)

    def _take_head(self, connection: UpstreamConnection, data: bytes) -> tuple[bytes, bytes] | None:
        """Collect the head: as the client gets it, with what came after it; None while incomplete."""
        held = self.held
        assert held is not None  # noqa: S101
        if held or not connection.head_complete:
            held += data
            data = bytes(held)
        if not connection.head_complete:
            if len(data) > HEAD_BYTES:
                connection.lose("the head of the pod's answer is too large")
            return None
        while connection.interim_heads:  # 1xx answers are not for the client
            data = data[data.index(b"\r\n\r\n") + 4 :]
            connection.interim_heads -= 1
        end = data.find(b"\r\n\r\n") + 4
        if end < 4:
            connection.lose("the pod's answer is not HTTP")
            return None
        head = data[:end]
        facts = read_head(head)
        ticket = self.ticket
        assert ticket is not None and ticket.endpoint is not None  # noqa: S101, PT018
        status = connection.status
        if status < 429 or (status < 500 and status != 429):  # as is_failure
            self.route.admission.pool.answered(ticket.endpoint)
        elif self._refused(connection, facts):
            return None
        self.facts = facts
        if self.charged > SMALL_BYTES:
            self._release()
        self.status = status
        length = facts.content_length
        dechunk = connection.keep_parts and facts.is_chunked
        if (length is None and facts.ends_at_close) or dechunk:
            self.client.close_after = True
        self.stream = facts.is_event_stream
        streamed = facts.is_event_stream or (length is not None and length > HOLD_BYTES)
        connection.collect = streamed or connection.keep_parts
        if connection.body_parts and not connection.collect:
            connection.body_parts = []
        if streamed:
            self.held = None
            self.reader = StreamReader(is_event_stream=facts.is_event_stream)
        elif held:
            held.clear()
        extra = self.answer_headers()
        if facts.is_event_stream:
            extra += stream_headers(facts)
        return edit_head(head, facts, extra, dechunk=dechunk), data[end:]

    def _refused(self, connection: UpstreamConnection, facts: HeadFacts) -> bool:
        """The pod answered 429 or 5xx; True when the request is tried on another pod instead.

        A pod that says until when it refuses (it drains) is left alone that long.
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
            route.pod_failed(endpoint, f"it answered {connection.status}")
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
        """Look for the first token and the counts; what the client gets of ``data``."""
        body = connection.take_parts()
        if body and reader.feed(body):
            now = time.monotonic()
            self.first_token_at = now
            self.route.first_token(self.klass, now - self.arrived)
        return body if connection.keep_parts else data

    def _complete(self, connection: UpstreamConnection) -> None:
        tail = self.last_bytes
        if self.held:
            tail = bytes(self.held)
            self.wrote = True
            self.client.write(tail)
        status, ticket, reader = self.status, self.ticket, self.reader
        assert ticket is not None and ticket.endpoint is not None  # noqa: S101, PT018
        if status < 429 or (status < 500 and status != 429):  # as is_failure
            if reader is not None:
                self._count_stream(connection, reader, ticket.endpoint)
            else:
                if ticket.endpoint.outcomes.consecutive:
                    self.route.admission.pool.completed(ticket.endpoint)
                tokens = plain_completion_tokens(tail)
                if tokens is not None:
                    self.route.tally.generated(self.klass, tokens)
        self.connection = None
        connection.done()
        self._end()

    def _count_stream(
        self, connection: UpstreamConnection, reader: StreamReader, endpoint: Endpoint
    ) -> None:
        """Count the tokens of a stream that is complete; its pod is in order."""
        route = self.route
        self._read_parts(connection, reader, b"")
        if reader.error and not reader.first_token:
            route.pod_failed(endpoint, "its stream held an error only", after_head=True)
        else:
            route.admission.pool.completed(endpoint)
        tokens = reader.completion_tokens()
        if tokens is None and reader.events > 1:
            tokens = reader.events - 1  # the last one is the end mark
        if tokens is None:
            return
        route.tally.generated(self.klass, tokens)
        first, each = self.first_token_at, tokens / self.width
        if first is not None and each > 1.0:
            seconds = (time.monotonic() - first) / (each - 1.0)
            route.tally.time_per_output_token[self.klass].observe(seconds)

    def upstream_lost(self, reason: str) -> None:
        """The connection to the pod ended before the answer was complete."""
        connection, self.connection = self.connection, None
        facts = self.facts
        ticket = self.ticket
        if connection is None or ticket is None or ticket.endpoint is None:
            return
        if facts is not None and facts.ends_at_close and connection.head_complete:
            if self.held is not None:
                self.wrote = True
                self.client.write(bytes(self.held))
            self._end()
            return
        pool = self.route.admission.pool
        endpoint = ticket.endpoint
        # A kept connection is sent to when the request starts.
        stale = connection.used and time.monotonic() - ticket.started <= STALE_SECONDS
        if facts is None and stale and not self.replayed and not self.held:
            self.replayed = True
            self.route.tally.retries["StaleConnection"] += 1
            self._connect(endpoint.address)
            return
        if facts is None or not is_failure(self.status):
            self.route.pod_failed(endpoint, reason, after_head=facts is not None)
        logger.warning(
            "request %s of %s: pod %s: %s",
            self.name,
            self.route.spec.key,
            endpoint.address,
            reason,
        )
        if facts is None and not self.replayed and pool.has_other({endpoint.address}):
            self._try_again("PodDied", avoid=endpoint.address)
            return
        error = bad_gateway("pod_died", f"the model pod broke the request: {reason}")
        if self.wrote:
            self._break_stream(connection, error)
        else:
            self.fail(error)

    def _break_stream(self, connection: UpstreamConnection, error: ApiError) -> None:
        """Tell a streaming client, if the framing still allows it, then cut without an end mark."""
        facts = self.facts
        assert facts is not None  # noqa: S101
        self.status = error.status
        if facts.is_event_stream:
            sent = self.last_bytes
            if connection.keep_parts:
                self.client.write(event_after(sent, error.event()))
            elif (
                facts.is_chunked
                and sent[-2:] in (b"", b"\r\n")
                and not connection.complete
                and connection.is_between_chunks()
            ):
                event = event_after(sent[:-2], error.event())
                self.client.write(b"%x\r\n%s\r\n" % (len(event), event))
        self.client.close_after = True
        self._end()

    # -- the end -------------------------------------------------------------------------------

    def enforce_timeouts(self, now: float) -> None:
        """End a request whose pod takes longer than the route allows; called every second or so."""
        ticket, connection = self.ticket, self.connection
        if ticket is None or ticket.endpoint is None or connection is None:
            return  # in queue, or connecting: these have limits of their own
        if self.active or connection.paused:  # paused: the client reads slowly, the pod waits
            self.active = False
            self.active_at = now
        timeouts = self.route.spec.timeouts
        if now - self.arrived - (self.queue_seconds or 0.0) > timeouts.total_seconds:
            problem = f"no end after {timeouts.total_seconds:g} s"
        elif self.facts is None and now - ticket.started > timeouts.response_head_seconds:
            problem = f"no answer within {timeouts.response_head_seconds:g} s"
        elif self.facts is not None and now - self.active_at > timeouts.stream_idle_seconds:
            problem = f"silent for {timeouts.stream_idle_seconds:g} s within its answer"
        else:
            return
        address = ticket.endpoint.address
        self.route.pod_failed(ticket.endpoint, problem, after_head=self.facts is not None)
        logger.warning(
            "request %s of %s: pod %s: %s", self.name, self.route.spec.key, address, problem
        )
        self.cut(ApiError(504, "timeout_error", "pod_timeout", f"the model pod: {problem}"))

    def _deadline_passed(self) -> None:
        """The time that the client gave is over; in queue, the queue itself sees to that."""
        self.client_deadline = None
        if self.ticket is not None and self.ticket.endpoint is not None:
            self.cut(deadline_exceeded("the deadline passed before the answer was complete"))

    @property
    def name(self) -> str:
        """The request's identifier as text."""
        return self.request_id.decode("ascii", "replace")

    def identity(self) -> int:
        """The same for a request that is sent again: its API key and body, not all of a large one."""
        body = self.body
        key = self.request.first.get(b"authorization")
        return hash((key, len(body), body[:IDENTITY_BYTES], body[-IDENTITY_BYTES:]))

    def _charge(self, count: int) -> bool:
        if not self.client.door.budget.take(count):
            return False
        self.charged += count
        return True

    def _release(self) -> None:
        """Nothing is sent again: what was kept for that can go."""
        self.body = b""
        request = self.request
        request.headers = _NO_HEADERS
        request.first = _WITH_ORIGIN if b"origin" in request.first else _NOTHING
        if self.charged:
            self.client.door.budget.give(self.charged)
            self.charged = 0

    def _over(self) -> None:
        """The request has ended, whichever way."""
        if self.charged:
            self.client.door.budget.used -= self.charged
            self.charged = 0
        self.body = b""
        self.held = None
        if self.client_deadline is not None:
            self.client_deadline.cancel()
            self.client_deadline = None

    def answer_headers(self) -> bytes:
        """Header lines that every answer of an admitted request carries."""
        client = self.client
        lines = b"x-request-id: %s\r\nx-r1-queue-ms: %d\r\nx-r1-class: %s\r\n%s" % (
            self.request_id,
            round((self.queue_seconds or 0.0) * 1000),
            _CLASS_BYTES[self.klass],
            client.connection_header() if client.close_after or client.door.closing else b"",
        )
        return CROSS_ORIGIN + lines if b"origin" in self.request.first else lines

    def fail(self, error: ApiError) -> None:
        """Answer with an error of ours; nothing of an answer was written before."""
        self._drop_connection()
        self.status = error.status
        self.client.write_error(error, self.answer_headers())
        self._end()

    def expired(self, now: float) -> None:
        """The request waited as long as it may (its ticket is already out of the queue)."""
        self.queue_seconds = now - self.arrived
        self.fail_queued(self.route.explain_expiry(self, now))

    def fail_queued(self, error: ApiError) -> None:
        """Answer with an error of ours; counted already, and not (or no longer) in the queue."""
        self.ticket = None
        self.status = error.status
        self.client.write_error(error, self.answer_headers())
        self._end()

    def cut(self, error: ApiError) -> None:
        """The gateway has no more time: tell the client, whatever it has already got."""
        connection = self.connection
        if connection is None or not self.wrote:
            self.fail(error)
        else:
            self._drop_connection()
            self._break_stream(connection, error)

    def client_gone(self) -> None:
        """The client closed: free its place, and let the pod stop."""
        self._drop_connection()
        self._over()
        ticket, self.ticket = self.ticket, None
        if ticket is not None:
            self.route.cancelled(self, ticket)

    def _drop_connection(self) -> None:
        if self.connecting is not None:
            self.connecting.cancel()
            self.connecting = None
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.close()

    def _end(self) -> None:
        self._over()
        ticket, self.ticket = self.ticket, None
        self.route.ended(self, ticket)
        self.client.exchange_done()


_CLASS_BYTES = tuple(klass.name.encode() for klass in PriorityClass)

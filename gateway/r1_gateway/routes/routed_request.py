"""A request of a route without its pod: caller, class, estimates, the end's figures, its memory."""

from __future__ import annotations

from r1_common.contracts.priority_classes import PriorityClass
from r1_gateway.admission.ticket import Ticket
from r1_gateway.http.http_request import HttpRequest
from r1_gateway.http.reply import Reply
from r1_gateway.http.response_head import CROSS_ORIGIN
from r1_gateway.http.stream_reader import StreamReader
from r1_gateway.routes.attempt import Attempt, used_tokens
from r1_gateway.routes.route import Route, RouteRequest
from r1_gateway.tenants.caller import Caller
from r1_gateway.tenants.tenant_limiter import Charge

IDENTITY_BYTES = 4096
CLASS_BYTES = tuple(klass.name.encode() for klass in PriorityClass)
_WITH_ORIGIN = {b"origin": b""}
_NOTHING: dict[bytes, bytes] = {}
_NO_HEADERS: list[tuple[bytes, bytes]] = []


class RoutedRequest:
    """What is decided at arrival and counted at the end."""

    __slots__ = (
        "arrived", "attempt", "body", "buffered", "caller", "cause", "charge", "charged", "cost",
        "deadline", "extra_headers", "forward_key", "klass", "prompt_tokens", "queue_seconds",
        "reader", "reply", "request", "request_id", "route", "size", "status", "stream", "ticket",
        "tokens", "width",
    )  # fmt: skip

    def __init__(
        self,
        route: Route,
        reply: Reply,
        request: HttpRequest,
        body: bytes,
        klass: PriorityClass,
        request_id: bytes,
        caller: Caller,
        stream: bool,
        forward_key: bool,
        now: float,
        client_timeout: float | None,
        width: int = 1,
        prompt_tokens: int = 0,
        cost: float = 1.0,
        charge: Charge | None = None,
        extra_headers: bytes = b"",
    ) -> None:
        """``prompt_tokens`` and ``cost`` (prompt and output) are estimates in tokens.

        ``charge`` is what the tenant's limits were charged; ``extra_headers`` are added to the
        response.
        """
        self.route = route
        self.reply = reply
        self.request = request
        self.body = body
        self.charged, request.charged = request.charged, 0
        self.klass = klass
        self.request_id = request_id
        self.caller = caller
        self.stream = stream
        self.forward_key = forward_key
        self.arrived = now
        self.deadline = None if client_timeout is None else now + client_timeout
        self.width = width
        self.size = len(body)
        self.prompt_tokens = prompt_tokens
        self.cost = cost
        self.charge = charge
        self.extra_headers = extra_headers
        self.ticket: Ticket[RouteRequest] | None = None
        self.attempt: Attempt | None = None
        self.buffered: bytearray | None = bytearray()
        self.reader: StreamReader | None = None
        self.queue_seconds: float | None = None
        self.status = 0
        self.tokens = (0, 0)
        """Input and output tokens that the request used; known at its end."""
        self.cause = ""
        """Error code of the gateway's response; empty for a response of a pod."""
        self.prepare()

    def prepare(self) -> None:
        """Set the attributes of a subclass."""

    @property
    def name(self) -> str:
        """The request's identifier as text."""
        return self.request_id.decode("ascii", "replace")

    @property
    def first_token_seconds(self) -> float | None:
        """Seconds from the arrival to the first token; None without one."""
        attempt = self.attempt
        first = None if attempt is None else attempt.first_token_at
        return None if first is None else first - self.arrived

    def identity(self) -> int:
        """A hash of API key and body (of a large one, both ends): equal when a request is resent."""
        body = self.body
        key = self.request.first.get(b"authorization")
        return hash((key, len(body), body[:IDENTITY_BYTES], body[-IDENTITY_BYTES:]))

    def count_tokens(self) -> tuple[int, int]:
        """Input and output tokens that the request used; also in ``tokens``."""
        self.tokens = used_tokens(self.attempt, self.reader, self.prompt_tokens, self.status)
        return self.tokens

    def response_headers(self) -> bytes:
        """Header lines of every response on a route."""
        reply = self.reply
        lines = b"x-request-id: %s\r\nx-r1-queue-ms: %d\r\nx-r1-class: %s\r\n%s%s" % (
            self.request_id,
            round((self.queue_seconds or 0.0) * 1000),
            CLASS_BYTES[self.klass],
            self.extra_headers,
            reply.connection_header() if reply.close_after or reply.gateway.closing else b"",
        )
        return CROSS_ORIGIN + lines if b"origin" in self.request.first else lines

    # -- memory --------------------------------------------------------------------------------

    def charge_bytes(self, count: int) -> bool:
        """Charge bytes to the byte budget; False when they do not fit."""
        if not self.reply.gateway.budget.take(count):
            return False
        self.charged += count
        return True

    def release(self) -> None:
        """Drop what was kept for a retry: none can follow."""
        self.body = b""
        request = self.request
        request.headers = _NO_HEADERS
        request.first = _WITH_ORIGIN if b"origin" in request.first else _NOTHING
        if self.charged:
            self.reply.gateway.budget.give(self.charged)
            self.charged = 0

    def drop_bytes(self) -> None:
        """Drop all bytes of the ended request."""
        if self.charged:
            self.reply.gateway.budget.used -= self.charged
            self.charged = 0
        self.body = b""
        self.buffered = None

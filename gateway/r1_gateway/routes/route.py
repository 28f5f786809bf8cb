"""A route at run time: admission, pods, statistics and one timer.

The timer serves what happens without an arrival or a freed seat: a deadline in the queue, or the end
of a pod's pause.  All other dispatches happen in the event that freed the seat.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from r1_common.contracts.priority_classes import PriorityClass
from r1_common.contracts.route import RouteSpec
from r1_gateway.admission.admission_queue import Admission
from r1_gateway.admission.class_queue import ClassQueue, FifoQueue
from r1_gateway.admission.endpoint_pool import Endpoint, EndpointPool
from r1_gateway.admission.ticket import Rejection, Ticket
from r1_gateway.http.errors import ApiError, unavailable
from r1_gateway.http.reply import Reply, ReplySource
from r1_gateway.http.upstream import ConnectionPool
from r1_gateway.routes.attempt import Attempt
from r1_gateway.routes.route_stats import RouteStats
from r1_gateway.tenants.caller import Caller
from r1_gateway.tenants.tenant_limiter import Charge

QUEUE_AFTER_LOSS_SECONDS = 120.0
CLIENT_CLOSED = 499

logger = logging.getLogger(__name__)


class RouteRequest(ReplySource, Protocol):
    """A request in a route's queue or on one of its pods, as the route sees it."""

    route: Route
    reply: Reply
    request_id: bytes
    klass: PriorityClass
    caller: Caller
    width: int
    cost: float
    """Estimated tokens, prompt and output."""
    size: int
    """Bytes of the body."""
    charge: Charge | None
    """What the limits of the caller's tenant were charged."""
    tokens: tuple[int, int]
    """Input and output tokens that the request used; known at its end."""
    attempt: Attempt | None
    cause: str
    arrived: float
    deadline: float | None
    """When the client's own deadline passes, in monotonic seconds."""
    queue_seconds: float | None
    status: int
    ticket: Ticket[RouteRequest] | None

    @property
    def first_token_seconds(self) -> float | None:
        """Seconds from the arrival to the first token; None without one."""

    def count_tokens(self) -> tuple[int, int]:
        """Input and output tokens that the request used; also kept in ``tokens``."""

    def identity(self) -> int:
        """The same number for a request that is sent again."""

    def begin(self, now: float) -> None:
        """A seat was assigned (``ticket.endpoint``)."""

    def expired(self, now: float) -> None:
        """The queue timeout or the deadline passed; the ticket is out of the queue."""

    def fail_queued(self, error: ApiError) -> None:
        """Answer with ``error``: the request is not in the queue and has no seat."""


class Route:
    """Admission in front of the pods of one R1Inference."""

    def __init__(
        self,
        spec: RouteSpec,
        connections: ConnectionPool,
        on_end: Callable[[RouteRequest], None] | None = None,
        new_queue: Callable[[], ClassQueue[RouteRequest]] = FifoQueue,
    ) -> None:
        """``new_queue`` makes the queue of each class."""
        self.spec = spec
        self.connections = connections
        self.stats = RouteStats()
        self.admission: Admission[RouteRequest] = Admission(
            spec.policies, EndpointPool(), new_queue
        )
        self.last_failure = ""
        self._on_end = on_end
        self._last_pod_at = time.monotonic()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    # -- configuration ------------------------------------------------------------------------

    def update_spec(self, spec: RouteSpec) -> None:
        """Apply new limits and classes; queued requests keep their places."""
        self.spec = spec
        self.admission.policies = spec.policies

    def update_pods(self, readiness: Mapping[str, bool], gateways: int = 1) -> None:
        """Replace the pods (address -> ready); each of several gateways takes its share of the seats."""
        seats = max(1, self.spec.seats_per_replica // max(1, gateways))
        self.admission.pool.update(readiness, seats)
        if readiness:
            self._last_pod_at = time.monotonic()
        self.dispatch()

    def reserve_seats(self, seats: Mapping[PriorityClass, int], until: float) -> None:
        """Reserve seats for each class and those above it until ``until``."""
        self.admission.reserve_seats(seats, until)
        self.dispatch()  # fewer may be reserved than before

    def close(self) -> None:
        """The resource was deleted: reject queued requests; requests in flight may finish."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        error = unavailable(
            "route_removed", f"{self.spec.key} was deleted while the request was queued", 1.0
        )
        for ticket in self.admission.drain():
            self.stats.reject(ticket.klass, "RouteRemoved", error.status)
            ticket.item.fail_queued(error)

    # -- requests ------------------------------------------------------------------------------

    def admit(self, request: RouteRequest, now: float, client_timeout: float | None) -> None:
        """Start, queue or reject: 429 when the queue is full, 503 when no pod is expected."""
        klass = request.klass
        reply = request.reply
        reply.exchange = request
        if self.admission.pool.ready == 0 and not self._may_queue(now):
            self.stats.reject(klass, "NoEndpoints", 503)
            request.fail_queued(
                unavailable(
                    "no_endpoints",
                    f"{self.spec.key} has no pods and none is expected; retry later, or check the "
                    "resource with kubectl get r1",
                    5.0,
                )
            )
            return
        reserved_return, reply.reserved_return = reply.reserved_return, None
        outcome = self.admission.offer(
            request,
            klass,
            now,
            client_timeout,
            width=request.width,
            reserved_return=reserved_return,
            identity=request.identity,
            caller=request.caller,
            cost=request.cost,
            size=request.size,
        )
        if isinstance(outcome, Rejection):
            reply.reserved_return = outcome.reserved_return
            error = self._rejection_error(outcome)
            self.stats.reject(klass, outcome.reason, error.status)
            request.fail_queued(error)
            return
        request.ticket = outcome
        if self.admission.displaced:
            self._reject_displaced(now)
        if outcome.endpoint is not None:
            request.begin(now)
        else:
            self.dispatch()

    def _rejection_error(self, rejection: Rejection) -> ApiError:
        message = f"{self.spec.key}: {rejection.message}"
        if rejection.reason == "DeadlineUnreachable":
            return unavailable("deadline_unreachable", message, rejection.retry_after_seconds)
        return ApiError(
            429,
            "rate_limit_error",
            "queue_full",
            message,
            retry_after_seconds=rejection.retry_after_seconds,
            retry_is_exact=True,
        )

    def _reject_displaced(self, now: float) -> None:
        """Reject the requests that made room for one of a tenant with fewer queued requests."""
        displaced, self.admission.displaced = self.admission.displaced, []
        for ticket in displaced:
            request, klass = ticket.item, ticket.klass
            seconds, request.reply.reserved_return = self.admission.reserve_return(
                klass, now, request.identity()
            )
            rejection = Rejection(
                "Displaced",
                f"the {klass.name} queue is full and tenant {ticket.caller.tenant!r} has the most "
                f"requests in it: the newest one made room for another tenant; retry after "
                f"{seconds} s",
                seconds,
            )
            self.stats.reject(klass, rejection.reason, 429)
            request.queue_seconds = now - request.arrived
            request.fail_queued(self._rejection_error(rejection))

    def _may_queue(self, now: float) -> bool:
        """Whether a pod is expected: scaling from zero, or pods that exist or existed recently."""
        return (
            self.spec.may_wake
            or self.admission.pool.known > 0
            or now - self._last_pod_at < QUEUE_AFTER_LOSS_SECONDS
        )

    def dispatch(self) -> None:
        """Expire queued requests, then assign free seats in order."""
        admission = self.admission
        if not admission.waiting:
            return
        now = time.monotonic()
        for ticket in admission.expire(now):
            ticket.item.expired(now)
        while (started := admission.start_next(now)) is not None:
            started.item.begin(now)
        self._set_timer(now)

    def _set_timer(self, now: float) -> None:
        at = self.admission.next_event(now)
        if at is None or (self._timer is not None and self._timer_at <= at):
            return  # a timer that fires too early only checks again
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(max(at - now, 0.0) + 0.001, self._on_timer)
        self._timer_at = at

    def _on_timer(self) -> None:
        self._timer = None
        self.dispatch()

    def expiry_error(self, request: RouteRequest, now: float) -> ApiError:
        """The error for a request that expired in the queue; counts it."""
        klass = request.klass
        waited = now - request.arrived
        if self.spec.policies[klass].time_to_first_token_seconds is not None:
            self.stats.slo_missed[klass] += 1
        if request.deadline is not None and now >= request.deadline:
            error = ApiError(
                504,
                "timeout_error",
                "deadline_exceeded",
                f"the deadline passed after {waited:.1f} s in the queue of {self.spec.key}",
            )
            reason = "DeadlineExceeded"
        elif self.admission.pool.ready == 0:
            reason = "NoEndpoints"
            error = unavailable(
                "no_endpoints",
                f"{self.spec.key} had no ready pod during the {waited:.0f} s in the queue",
                5.0,
            )
        else:
            reason = "QueueTimeout"
            cause = f"; last failure: {self.last_failure}" if self.last_failure else ""
            error = unavailable(
                "queue_timeout",
                f"{self.spec.key} had no free seat during the {waited:.0f} s in the queue{cause}",
                self.admission.retry_after(klass, now),
            )
        self.stats.reject(klass, reason, error.status)
        return error

    def pod_failed(
        self,
        endpoint: Endpoint,
        reason: str,
        *,
        unreachable: bool = False,
        after_head: bool = False,
    ) -> None:
        """Count a failed request against its pod."""
        self.last_failure = f"pod {endpoint.address}: {reason}"
        ejected_for = self.admission.pool.failed(
            endpoint, time.monotonic(), unreachable=unreachable, after_head=after_head
        )
        if ejected_for is not None:
            self.stats.ejections += 1
            logger.warning(
                "%s: pod %s is ejected for %.0f s: it fails more requests than the other pods (last failure: %s)",
                self.spec.key,
                endpoint.address,
                ejected_for,
                reason,
            )

    def first_token(self, klass: PriorityClass, seconds: float) -> None:
        """Count a stream's first token, ``seconds`` after the arrival of its request."""
        self.stats.time_to_first_token[klass].observe(seconds)
        target = self.spec.policies[klass].time_to_first_token_seconds
        if target is not None and seconds > target:
            self.stats.slo_missed[klass] += 1

    def ended(self, request: RouteRequest, ticket: Ticket[RouteRequest] | None) -> None:
        """Count a complete response; ``ticket`` is None when the request never got a seat."""
        now = time.monotonic()
        used = request.count_tokens()
        if ticket is not None and self.admission.finish(ticket, now, used[0] + used[1]):
            klass = request.klass
            stats = self.stats
            (stats.completed if request.status < 500 else stats.failed)[klass] += 1
            if request.status < 400:  # an error response comes at once and is no measure of load
                stats.latency[klass].observe(now - request.arrived)
            stats.by_code[klass, request.status] += 1
            if self.admission.waiting:
                self.dispatch()
        if self._on_end is not None:
            self._on_end(request)

    def cancelled(self, request: RouteRequest, ticket: Ticket[RouteRequest]) -> None:
        """Count a request whose client closed the connection, queued or in flight."""
        used = request.count_tokens()
        if self.admission.finish(ticket, time.monotonic(), used[0] + used[1]):
            self.stats.cancelled[request.klass] += 1
            self.stats.by_code[request.klass, CLIENT_CLOSED] += 1
            self.dispatch()
        if self._on_end is not None:
            self._on_end(request)

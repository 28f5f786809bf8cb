"""One resource at run time: its admission, its pods, its counts, and one timer.

The timer exists for what happens without any arrival or release: a deadline in the queue, or a pod
whose pause is over.  Everything else is dispatched by the event that freed the seat.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping

from r1_gateway.admission.admission_queue import Admission, Rejection, Ticket
from r1_gateway.admission.classes import PriorityClass
from r1_gateway.admission.endpoint_pool import Endpoint, EndpointPool
from r1_gateway.http.errors import ApiError, unavailable
from r1_gateway.http.exchange import Exchange
from r1_gateway.http.upstream import ConnectionPool
from r1_gateway.routes.route_spec import RouteSpec
from r1_gateway.routes.route_stats import RouteStats

HOLD_AFTER_LOSS_SECONDS = 120.0
CLIENT_CLOSED = 499

logger = logging.getLogger(__name__)


class Route:
    """Admission in front of the pods of one R1Inference."""

    def __init__(
        self,
        spec: RouteSpec,
        connections: ConnectionPool,
        on_end: Callable[[Exchange], None] | None = None,
    ) -> None:
        self.spec = spec
        self.connections = connections
        self.tally = RouteStats()
        self.admission: Admission[Exchange] = Admission(spec.policies, EndpointPool())
        self.last_trouble = ""
        self._on_end = on_end
        self._alive_at = time.monotonic()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    # -- what the world looks like -------------------------------------------------------------

    def update_spec(self, spec: RouteSpec) -> None:
        """Take over new bounds and classes; what waits keeps its place."""
        self.spec = spec
        self.admission.policies = spec.policies

    def update_pods(self, readiness: Mapping[str, bool], gateways: int = 1) -> None:
        """Take over the pods (address -> ready).  With several gateways each takes its share."""
        seats = max(1, self.spec.seats_per_replica // max(1, gateways))
        self.admission.pool.update(readiness, seats)
        if readiness:
            self._alive_at = time.monotonic()
        self.pump()

    def advise(self, seats: Mapping[PriorityClass, int], until: float) -> None:
        """Keep at least so many seats free for each class and those above it, until then."""
        self.admission.advise(seats, until)
        self.pump()  # it may be fewer than were advised before

    def close(self) -> None:
        """The resource is gone: nobody waits for it any more; what runs may finish."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        error = unavailable("route_removed", f"{self.spec.key} was deleted", 1.0)
        for ticket in self.admission.drain():
            self.tally.reject(ticket.klass, "RouteRemoved", error.status)
            ticket.item.fail_queued(error)

    # -- requests ------------------------------------------------------------------------------

    def admit(self, exchange: Exchange, now: float, patience: float | None) -> None:
        """Start, queue, or refuse: 429 when the queue is full, 503 with nothing to wait for."""
        klass = exchange.klass
        exchange.client.exchange = exchange
        if self.admission.pool.ready == 0 and not self._may_hold(now):
            self.tally.reject(klass, "NoEndpoints", 503)
            exchange.fail_queued(unavailable("no_endpoints", f"{self.spec.key} has no pods", 5.0))
            return
        client = exchange.client
        promise, client.promise = client.promise, None
        outcome = self.admission.offer(
            exchange,
            klass,
            now,
            patience,
            width=exchange.width,
            promise=promise,
            identity=exchange.identity,
        )
        if isinstance(outcome, Rejection):
            client.promise = outcome.promise
            self.tally.reject(klass, outcome.reason, 429)
            exchange.fail_queued(
                ApiError(
                    429,
                    "rate_limit_error",
                    "queue_full",
                    f"{self.spec.key}: {outcome.message}",
                    retry_after_seconds=outcome.retry_after_seconds,
                    retry_is_exact=True,
                )
            )
            return
        exchange.ticket = outcome
        if outcome.endpoint is not None:
            exchange.begin(now)
        else:
            self.pump()

    def _may_hold(self, now: float) -> bool:
        """Pods may come: the resource may wake, or some exist or existed a moment ago."""
        return (
            self.spec.may_wake
            or self.admission.pool.known > 0
            or now - self._alive_at < HOLD_AFTER_LOSS_SECONDS
        )

    def pump(self) -> None:
        """Give free seats to those whose turn it is; send away those who waited too long."""
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
            return  # a timer that fires too early only looks again
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(max(at - now, 0.0) + 0.001, self._on_timer)
        self._timer_at = at

    def _on_timer(self) -> None:
        self._timer = None
        self.pump()

    def explain_expiry(self, exchange: Exchange, now: float) -> ApiError:
        """Why a request waited in vain, counted."""
        klass = exchange.klass
        if self.spec.policies[klass].time_to_first_token_seconds is not None:
            self.tally.slo_missed[klass] += 1
        if exchange.give_up_at is not None and now >= exchange.give_up_at:
            error = ApiError(
                504, "timeout_error", "deadline_exceeded", "the deadline passed in queue"
            )
            reason = "DeadlineExceeded"
        elif self.admission.pool.ready == 0:
            reason = "NoEndpoints"
            error = unavailable(
                "no_endpoints",
                f"{self.spec.key} had no ready pod for {now - exchange.arrived:.0f} s",
                5.0,
            )
        else:
            reason = "QueueTimeout"
            trouble = f" ({self.last_trouble})" if self.last_trouble else ""
            error = unavailable(
                "queue_timeout",
                f"no seat in {self.spec.key} for {now - exchange.arrived:.0f} s{trouble}",
                self.admission.retry_after(klass, now),
            )
        self.tally.reject(klass, reason, error.status)
        return error

    def pod_failed(
        self, endpoint: Endpoint, why: str, *, unreachable: bool = False, after_head: bool = False
    ) -> None:
        """A pod broke a request, refused it, or answered with an error of its own."""
        self.last_trouble = f"pod {endpoint.address}: {why}"
        ejected_for = self.admission.pool.failed(
            endpoint, time.monotonic(), unreachable=unreachable, after_head=after_head
        )
        if ejected_for is not None:
            self.tally.ejections += 1
            logger.warning(
                "%s: pod %s is ejected for %.0f s: it fails more than the other pods (%s)",
                self.spec.key,
                endpoint.address,
                ejected_for,
                why,
            )

    def first_token(self, klass: PriorityClass, seconds: float) -> None:
        """A stream's first token came that long after the request."""
        self.tally.time_to_first_token[klass].observe(seconds)
        promise = self.spec.policies[klass].time_to_first_token_seconds
        if promise is not None and seconds > promise:
            self.tally.slo_missed[klass] += 1

    def ended(self, exchange: Exchange, ticket: Ticket[Exchange] | None) -> None:
        """The request has its answer; ``ticket`` is None when it never got a seat."""
        now = time.monotonic()
        if ticket is not None and self.admission.finish(ticket, now):
            klass = exchange.klass
            tally = self.tally
            (tally.completed if exchange.status < 500 else tally.failed)[klass] += 1
            if exchange.status < 400:  # a refused body is answered at once and says nothing of load
                tally.latency[klass].observe(now - exchange.arrived)
            tally.by_code[klass, exchange.status] += 1
            if self.admission.waiting:
                self.pump()
        if self._on_end is not None:
            self._on_end(exchange)

    def cancelled(self, exchange: Exchange, ticket: Ticket[Exchange]) -> None:
        """The client went away, queued or running."""
        if self.admission.finish(ticket, time.monotonic()):
            exchange.status = CLIENT_CLOSED
            self.tally.cancelled[exchange.klass] += 1
            self.tally.by_code[exchange.klass, CLIENT_CLOSED] += 1
            self.pump()
        if self._on_end is not None:
            self._on_end(exchange)

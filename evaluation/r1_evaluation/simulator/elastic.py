"""A pool under an autoscaler, request by request: replicas start, drain, fail and are paid.

The gateway's own admission stands between clients and engines. A request on a failed or stopped
replica is retried while it has no token, as by the gateway. After its first token it is lost.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from r1_common.contracts.priority_classes import CLASSES, ClassPolicy
from r1_evaluation.simulator.arrivals import Arrival
from r1_evaluation.simulator.engine import EngineSpeed, Work
from r1_evaluation.simulator.fleet import Ending, Fleet, Replica
from r1_evaluation.simulator.scalers import TICK_SECONDS, Scaler, ScalerInput
from r1_gateway.admission.admission_queue import Admission
from r1_gateway.admission.endpoint_pool import EndpointPool
from r1_gateway.admission.ticket import Rejection, Ticket, TicketState
from r1_operator.plan.signals.counter_sample import CounterSample

EPOCH = 1_700_000_000.0
"""The unix time of the simulation's start: the decision code reads clocks that look like clocks."""


class _Event(Enum):
    ITERATION = auto()
    READY = auto()
    FAILURE = auto()
    GRACE_OVER = auto()


@dataclass(slots=True, eq=False)
class _Request:
    arrival: Arrival
    work: Work


@dataclass(slots=True)
class ElasticOutcome:
    """Outcome of a run, scored after its warm-up.

    `delays` are times to first token beyond the time on an idle replica (infinite without a
    token), `paces` are seconds per further output token of completed requests. Lost requests had
    their first token when their replica ended.
    """

    offered: int = 0
    refused: int = 0
    expired: int = 0
    completed: int = 0
    lost_on_scale_down: int = 0
    lost_on_failure: int = 0
    paid_seconds: float = 0.0
    actions: int = 0
    delays: list[float] = field(default_factory=list)
    paces: list[float] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)

    def violations(self, max_delay: float) -> float:
        """Share of the offered requests that were lost or delayed by more than `max_delay` seconds."""
        if not self.offered:
            return 0.0
        late = sum(delay > max_delay for delay in self.delays)
        return (late + self.lost_on_scale_down + self.lost_on_failure) / self.offered


class ElasticPool:
    """A pool whose count an autoscaler sets.

    Args:
        start_seconds: returns the start-up time of each replica.
        mean_life_seconds: mean time until a serving replica breaks.
    """

    def __init__(
        self,
        speed: EngineSpeed,
        policies: Sequence[ClassPolicy],
        ending: Ending,
        *,
        start_seconds: Callable[[], float],
        mean_life_seconds: float = math.inf,
        seed: int = 0,
    ) -> None:
        self._speed = speed
        rng = random.Random(seed)  # noqa: S311 (a simulation, no secret)
        self._fleet = Fleet(speed, ending, start_seconds, mean_life_seconds, rng)
        self._endpoints = EndpointPool()
        self._admission: Admission[_Request] = Admission(policies, self._endpoints)
        self._events: list[tuple[float, int, _Event, Replica]] = []
        self._serial = itertools.count()
        self._running: dict[Work, Ticket[_Request]] = {}
        self._offered = self._offered_tokens = self._completed = self._rejected = 0
        self._outcome = ElasticOutcome()
        self._warm_up = 0.0

    def run(
        self,
        arrivals: Sequence[Arrival],
        scaler: Scaler,
        *,
        replicas: int,
        warm_up: float,
        seconds: float,
    ) -> ElasticOutcome:
        """Run the arrivals (in order of time), starting with `replicas` serving replicas."""
        self._warm_up = warm_up
        for _ in range(replicas):
            self._watch(self._fleet.start(0.0, ready=True))
        self._update_endpoints()
        count, tick, paid_before = replicas, 0.0, 0.0
        coming = iter(arrivals)
        arrival = next(coming, None)
        while tick < seconds:
            while arrival is not None and arrival.at < tick:
                self._advance_to(arrival.at)
                self._arrive(arrival)
                arrival = next(coming, None)
            self._advance_to(tick)
            self._pump(tick)
            if tick <= warm_up:
                paid_before = self._fleet.close(tick)
            count = self._scale(scaler, count, tick)
            tick += TICK_SECONDS
        self._advance_to(seconds)
        self._outcome.paid_seconds = self._fleet.close(seconds) - paid_before
        self._score_unfinished(seconds)
        return self._outcome

    # -- the autoscaler's side -----------------------------------------------------------------

    def _scale(self, scaler: Scaler, count: int, now: float) -> int:
        view = ScalerInput(self._sample(now), count, self._fleet.ready, self._speed.seats)
        wanted = scaler.tick(view, EPOCH + now)
        if now >= self._warm_up:
            self._outcome.actions += wanted != count
            self._outcome.counts.append(wanted)
        kept = len(self._fleet.kept)
        for _ in range(wanted - kept):
            self._watch(self._fleet.start(now))
        if wanted < kept:
            for replica in list(self._fleet.leave(kept - wanted, self._load)):
                self._drain(replica, now)
            self._update_endpoints()
        return wanted

    def _sample(self, now: float) -> CounterSample:
        admission = self._admission
        return CounterSample(
            gateway="gateway",
            started_at=EPOCH - 3600,
            at=EPOCH + now,
            received_at=EPOCH + now,
            offered_requests=self._offered,
            offered_tokens=self._offered_tokens,
            completed=self._completed,
            rejected=self._rejected,
            in_flight=sum(admission.in_flight),
            queued=admission.waiting,
            buffered=0.0,
            oldest_wait_seconds=max(admission.oldest_wait(klass, now) for klass in CLASSES),
            seats=self._endpoints.seats,
            ready_endpoints=self._fleet.ready,
        )

    def _load(self, replica: Replica) -> int:
        return sum(ticket.endpoint is not None and ticket.endpoint.address == replica.name
                   for ticket in self._running.values())  # fmt: skip

    def _update_endpoints(self) -> None:
        found = {one.name: one.serves for one in self._fleet.replicas.values()}
        self._endpoints.update(found, self._speed.seats)

    # -- replicas' lives -----------------------------------------------------------------------

    def _push(self, at: float, event: _Event, replica: Replica) -> None:
        if at < math.inf:
            heapq.heappush(self._events, (at, next(self._serial), event, replica))

    def _watch(self, replica: Replica) -> None:
        if not replica.serves:
            self._push(replica.ready_at, _Event.READY, replica)
        self._push(replica.fails_at, _Event.FAILURE, replica)

    def _drain(self, replica: Replica, now: float) -> None:
        replica.drained_since, replica.serves = now, False
        if self._load(replica) == 0:
            self._fleet.remove(replica, now)
        else:
            self._push(now + self._fleet.ending.grace_seconds, _Event.GRACE_OVER, replica)

    def _stop(self, replica: Replica, now: float) -> int:
        """End a replica; return the number of lost requests."""
        self._fleet.remove(replica, now)
        self._update_endpoints()
        lost = 0
        for work, ticket in list(self._running.items()):
            if ticket.endpoint is None or ticket.endpoint.address != replica.name:
                continue
            del self._running[work]
            if work.first_token_at is None:
                arrival = ticket.item.arrival
                ticket.item.work = _work_of(arrival)
                self._admission.retry(ticket, avoid=replica.name)
                continue
            self._admission.finish(ticket, now)
            self._completed += 1
            lost += ticket.item.arrival.at >= self._warm_up
        return lost

    def _happen(self, event: _Event, replica: Replica, now: float) -> None:
        if replica.gone:
            return
        if event is _Event.ITERATION:
            self._iterate(replica, now)
            return
        if event is _Event.READY:
            if replica.drained_since is None:
                replica.serves = True
                self._update_endpoints()
        elif event is _Event.GRACE_OVER:
            self._outcome.lost_on_scale_down += self._stop(replica, now)
        else:
            self._outcome.lost_on_failure += self._stop(replica, now)
            if replica.drained_since is None:  # its ReplicaSet makes another at once
                self._watch(self._fleet.start(now))
        self._pump(now)

    def _iterate(self, replica: Replica, now: float) -> None:
        engine = replica.engine
        if engine.ends_at != now:
            return  # a request joined since, and the span ended earlier
        ended = engine.advance(now)
        if engine.busy:
            self._push(engine.ends_at, _Event.ITERATION, replica)
        for work in ended:
            self._finish(work, now)
        if ended and replica.drained_since is not None and not engine.busy:
            self._fleet.remove(replica, now)
            self._update_endpoints()
        if ended:
            self._pump(now)

    def _advance_to(self, until: float) -> None:
        while self._events and self._events[0][0] <= until:
            now, _, event, replica = heapq.heappop(self._events)
            self._happen(event, replica, now)

    # -- requests ------------------------------------------------------------------------------

    def _arrive(self, arrival: Arrival) -> None:
        now = arrival.at
        scored = now >= self._warm_up
        self._offered += 1
        self._offered_tokens += arrival.prompt_tokens + arrival.output_tokens
        self._outcome.offered += scored
        request = _Request(arrival, _work_of(arrival))
        outcome = self._admission.offer(request, arrival.klass, now)
        if isinstance(outcome, Rejection):
            self._rejected += 1
            self._outcome.refused += scored
            if scored:
                self._outcome.delays.append(math.inf)
        elif outcome.state is TicketState.RUNNING:
            self._begin(outcome, now)
        else:
            self._pump(now)

    def _begin(self, ticket: Ticket[_Request], now: float) -> None:
        assert ticket.endpoint is not None  # noqa: S101 (RUNNING implies a pod)
        replica = self._fleet.replicas[ticket.endpoint.address]
        self._running[ticket.item.work] = ticket
        before = replica.engine.ends_at
        replica.engine.add(ticket.item.work, now)
        if replica.engine.ends_at != before:
            self._push(replica.engine.ends_at, _Event.ITERATION, replica)

    def _pump(self, now: float) -> None:
        for ticket in self._admission.expire(now):
            if ticket.item.arrival.at >= self._warm_up:
                self._outcome.expired += 1
                self._outcome.delays.append(math.inf)
        while (started := self._admission.start_next(now)) is not None:
            self._begin(started, now)

    def _finish(self, work: Work, now: float) -> None:
        ticket = self._running.pop(work)
        self._admission.finish(ticket, now)
        self._completed += 1
        arrival = ticket.item.arrival
        if arrival.at < self._warm_up:
            return
        first = work.first_token_at or now
        self._outcome.completed += 1
        self._outcome.delays.append(self._delay(arrival, first))
        if work.output_tokens > 1:
            self._outcome.paces.append((now - first) / (work.output_tokens - 1))

    def _score_unfinished(self, end: float) -> None:
        """Score at the end: requests without a first token have waited until now."""
        waiting = self._admission.drain()
        for ticket in [*self._running.values(), *waiting]:
            arrival = ticket.item.arrival
            if arrival.at >= self._warm_up:
                first = ticket.item.work.first_token_at
                self._outcome.delays.append(self._delay(arrival, end if first is None else first))

    def _delay(self, arrival: Arrival, first_token_at: float) -> float:
        alone = self._speed.alone_seconds(arrival.prompt_tokens)
        return max(0.0, first_token_at - arrival.at - alone)


def _work_of(arrival: Arrival) -> Work:
    return Work(arrival.prompt_tokens, arrival.output_tokens, arrival.klass)

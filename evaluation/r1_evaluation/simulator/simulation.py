"""A fixed or scheduled pool of replicas: arrivals, gateway admission, engines, outcomes.

The admission is the gateway's own `Admission` with the simulation's clock. `fifo` puts every
request into one class, as a gateway without priorities. Several gateways share each replica's
seats, and each request reaches one of them at random.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from r1_common.contracts.priority_classes import CLASSES, ClassPolicy, PriorityClass
from r1_evaluation.simulator.arrivals import Arrival
from r1_evaluation.simulator.engine import EngineSpeed, SimulatedEngine, Work
from r1_evaluation.simulator.operator_reservations import TICK_SECONDS, Operator
from r1_gateway.admission.admission_queue import Admission
from r1_gateway.admission.endpoint_pool import EndpointPool
from r1_gateway.admission.ticket import Rejection, Ticket, TicketState


@dataclass(slots=True)
class ClassOutcome:
    """Outcome of one class.

    `waits` are times to first token, infinite for requests without one; `seat_waits` are times to
    a seat of requests that got one.
    """

    offered: int = 0
    refused: int = 0
    expired: int = 0
    completed: int = 0
    waits: list[float] = field(default_factory=list)
    seat_waits: list[float] = field(default_factory=list)

    def slo_attainment(self, slo_seconds: float) -> float:
        """Share of the offered requests with a first token within `slo_seconds`."""
        if not self.offered:
            return 1.0
        return sum(wait <= slo_seconds for wait in self.waits) / self.offered

    def quantile(self, level: float) -> float:
        """Nearest-rank quantile of time to first token; NaN without requests."""
        ordered = sorted(self.waits)
        if not ordered:
            return math.nan
        return ordered[min(len(ordered) - 1, max(0, math.ceil(level * len(ordered)) - 1))]


@dataclass(slots=True)
class PoolOutcome:
    """A whole run, scored between its warm-up and its end.

    `utilisation` is the mean share of seats in use.
    """

    classes: tuple[ClassOutcome, ...]
    utilisation: float

    def of(self, klass: PriorityClass) -> ClassOutcome:
        """Return the outcome of one class."""
        return self.classes[klass]


@dataclass(slots=True, eq=False)
class _Request:
    arrival: Arrival
    work: Work
    gateway: int


@dataclass(frozen=True, slots=True)
class ScheduledReplicas:
    """From `at` on (seconds), `replicas` accept requests; known `notice` seconds earlier."""

    at: float
    replicas: int
    notice: float = TICK_SECONDS


class Pool:
    """A pool of replicas, constant or by `replica_schedule`, behind one or more gateways.

    `engine_order`: engines prefill urgent prompts first, as the runtime does. `operator` reserves
    seats at the gateways.
    """

    def __init__(
        self,
        replicas: int,
        speed: EngineSpeed,
        policies: Sequence[ClassPolicy],
        *,
        fifo: bool,
        engine_order: bool = True,
        gateways: int = 1,
        operator: Operator | None = None,
        replica_schedule: Sequence[ScheduledReplicas] = (),
        seed: int = 0,
    ) -> None:
        self._engines = {f"replica-{n}": SimulatedEngine(speed) for n in range(replicas)}
        self._share = max(1, speed.seats // gateways)
        self._admissions: tuple[Admission[_Request], ...] = tuple(
            Admission(policies, EndpointPool()) for _ in range(gateways)
        )
        self._offered = [[0] * len(CLASSES) for _ in range(gateways)]
        self._operator = operator
        self._replica_schedule = list(replica_schedule)
        self._ticked_at = 0.0
        self._replicas = replicas
        self._serve(replicas)
        self._rng = random.Random(seed)  # noqa: S311 (a simulation, no secret)
        self._seats = replicas * speed.seats
        self._fifo = fifo
        self._engine_order = engine_order
        self._events: list[tuple[float, str]] = []
        self._running: dict[Work, Ticket[_Request]] = {}
        self._busy_seat_seconds = 0.0
        self._counted_at = 0.0

    def run(self, arrivals: Sequence[Arrival], *, warm_up: float, seconds: float) -> PoolOutcome:
        """Run the arrivals (in order of time) and return the outcome after the warm-up."""
        self._classes = tuple(ClassOutcome() for _ in CLASSES)
        self._warm_up, self._end = warm_up, seconds
        if self._operator is not None:
            self._operator.observe_arrivals(arrivals)
        for arrival in arrivals:
            if arrival.at >= seconds:
                break
            self._run_until(arrival.at)
            self._arrive(arrival)
        self._run_until(seconds)
        self._count_seats(seconds)
        self._score_unfinished()
        scored = self._seats * (seconds - warm_up)
        return PoolOutcome(self._classes, self._busy_seat_seconds / scored)

    def _serve(self, replicas: int) -> None:
        """The first `replicas` accept requests; the others finish their requests."""
        self._replicas = replicas
        ready = {name: n < replicas for n, name in enumerate(self._engines)}
        for admission in self._admissions:
            admission.pool.update(ready, self._share)

    def _run_until(self, until: float) -> None:
        """Advance to a time: engines, operator ticks and scheduled replicas."""
        while True:
            tick = self._ticked_at + TICK_SECONDS if self._operator is not None else math.inf
            change = self._replica_schedule[0].at if self._replica_schedule else math.inf
            now = min(tick, change)
            if now > until:
                break
            self._advance_to(now)
            self._count_seats(now)
            if change <= now:
                self._serve(self._replica_schedule.pop(0).replicas)
                self._pump(now)
            if tick <= now:
                self._tick(now)
        self._advance_to(until)

    def _tick(self, now: float) -> None:
        self._ticked_at = now
        coming = self._replica_schedule[0] if self._replica_schedule else None
        known = coming is not None and coming.at - coming.notice <= now
        wanted = coming.replicas if coming is not None and known else self._replicas
        assert self._operator is not None  # noqa: S101 (it is asked to look)
        self._operator.tick(
            self._admissions, self._offered, now, ready=self._replicas, replicas=wanted
        )
        self._pump(now)

    def _arrive(self, arrival: Arrival) -> None:
        now = arrival.at
        self._count_seats(now)
        counted = self._classes[arrival.klass]
        scored = now >= self._warm_up
        counted.offered += scored
        klass = PriorityClass.Q3 if self._fifo else arrival.klass  # the most patient one
        urgency = klass if self._engine_order else 0
        work = Work(arrival.prompt_tokens, arrival.output_tokens, urgency)
        gateway = self._rng.randrange(len(self._admissions))
        request = _Request(arrival, work, gateway)
        self._offered[gateway][klass] += 1
        outcome = self._admissions[gateway].offer(request, klass, now)
        if isinstance(outcome, Rejection):
            counted.refused += scored
            if scored:
                counted.waits.append(math.inf)
        elif outcome.state is TicketState.RUNNING:
            self._start(outcome, now)
        else:
            self._pump(now)

    def _start(self, ticket: Ticket[_Request], now: float) -> None:
        assert ticket.endpoint is not None  # noqa: S101 (RUNNING implies a pod)
        address = ticket.endpoint.address
        engine = self._engines[address]
        self._running[ticket.item.work] = ticket
        arrival = ticket.item.arrival
        if arrival.at >= self._warm_up:
            self._classes[arrival.klass].seat_waits.append(now - arrival.at)
        before = engine.ends_at
        engine.add(ticket.item.work, now)
        if engine.ends_at != before:
            heapq.heappush(self._events, (engine.ends_at, address))

    def _pump(self, now: float) -> None:
        for admission in self._admissions:
            for ticket in admission.expire(now):
                arrival = ticket.item.arrival
                if arrival.at >= self._warm_up:
                    self._classes[arrival.klass].expired += 1
                    self._classes[arrival.klass].waits.append(math.inf)
            while (started := admission.start_next(now)) is not None:
                self._start(started, now)

    def _advance_to(self, until: float) -> None:
        events = self._events
        while events and events[0][0] <= until:
            now, address = heapq.heappop(events)
            engine = self._engines[address]
            if engine.ends_at != now:
                continue  # a request joined since, and the span ended earlier
            ended = engine.advance(now)
            if engine.busy:
                heapq.heappush(events, (engine.ends_at, address))
            if ended:
                self._count_seats(now)
                for work in ended:
                    self._finish(work, now)
                self._pump(now)

    def _finish(self, work: Work, now: float) -> None:
        ticket = self._running.pop(work)
        self._admissions[ticket.item.gateway].finish(ticket, now)
        arrival = ticket.item.arrival
        if arrival.at >= self._warm_up:
            counted = self._classes[arrival.klass]
            counted.completed += 1
            counted.waits.append((work.first_token_at or now) - arrival.at)

    def _count_seats(self, now: float) -> None:
        since = max(self._counted_at, self._warm_up)
        if now > since:
            self._busy_seat_seconds += (now - since) * len(self._running)
        self._counted_at = now

    def _score_unfinished(self) -> None:
        """Score at the end: running requests keep their first token; queued ones are not scored."""
        for work, ticket in self._running.items():
            arrival = ticket.item.arrival
            if arrival.at < self._warm_up:
                continue
            if work.first_token_at is None:
                self._classes[arrival.klass].offered -= 1
            else:
                self._classes[arrival.klass].waits.append(work.first_token_at - arrival.at)
        waiting = [one for admission in self._admissions for one in admission.drain()]
        for ticket in waiting:
            if ticket.item.arrival.at >= self._warm_up:
                late = self._end - ticket.item.arrival.at
                self._classes[ticket.item.arrival.klass].waits.append(late)

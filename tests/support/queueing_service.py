"""Simulation of a service with a queue, for the effect of a policy's decisions on latencies.

Arrivals wait in one queue for a seat. A replica has `seats` seats. A request takes `alone_seconds` on
an empty replica and `crowding` times as long on a full one. Arrivals are Poisson with a fixed seed.
The durations pass through the same histograms and windows as the gateway's. Replicas start after
`start_seconds` and stop at once.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from r1_operator.api.scaling import ClassName
from r1_operator.plan.scaling.decide import decide
from r1_operator.plan.scaling.decision import Decision
from r1_operator.plan.scaling.inputs import ScalingInputs
from r1_operator.plan.scaling.policy import ScalingPolicy
from r1_operator.plan.scaling.scaling_state import ScalingState
from r1_operator.plan.signals.counter_sample import CounterSample
from r1_operator.plan.signals.counter_store import CounterStore
from r1_operator.plan.signals.latency_histograms import GatewayLatencies, LatencyHistogram
from r1_operator.plan.signals.lead_time import LeadTime

BOUNDS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0, 60.0)
START = 1_700_000_000.0
TICK = 0.05


@dataclass
class Request:
    arrived: float
    work: float


@dataclass
class QueueingService:
    """Simulates a service under a policy; `counts` has one entry per second."""

    policy: ScalingPolicy
    replicas: int
    seats: int = 4
    alone_seconds: float = 0.2
    crowding: float = 2.0
    start_seconds: float = 60.0
    now: float = START
    rng: random.Random = field(default_factory=lambda: random.Random(7))
    history: ScalingState = field(default_factory=ScalingState)
    decisions: list[Decision] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ready_at = [START - 3600.0] * self.replicas
        self.line: deque[Request] = deque()
        self.running: list[Request] = []
        self.offered = self.completed = 0
        self.first = [0.0] * (len(BOUNDS) + 1)
        self.whole = [0.0] * (len(BOUNDS) + 1)
        self.first_total = self.whole_total = 0.0
        self.counters = CounterStore()
        self.history = replace(
            ScalingState().started(START - 3600, self.replicas), highest_recommendations=()
        )

    @property
    def ready(self) -> int:
        return sum(at <= self.now for at in self.ready_at)

    def play(self, seconds: int, rate: float | Callable[[float], float]) -> None:
        """Advance the time at `rate` requests per second; decide every two seconds."""
        for second in range(seconds):
            per_second = rate(self.now - START) if callable(rate) else rate
            for _ in range(round(1 / TICK)):
                self._tick(per_second)
            if second % 2 == 0:
                self._decide()
            self.counts.append(self.replicas)

    def _tick(self, rate: float) -> None:
        self.now += TICK
        for _ in range(self._poisson(rate * TICK)):
            self.offered += 1
            self.line.append(Request(self.now, self.alone_seconds * self.rng.uniform(0.7, 1.3)))
        room = self.ready * self.seats
        share = min(room, len(self.running)) / max(1, room)
        speed = TICK / (1 + (self.crowding - 1) * share)
        for request in self.running:
            request.work -= speed
        for request in [one for one in self.running if one.work <= 0]:
            self.running.remove(request)
            self.completed += 1
            took = self._count(self.whole, self.now - request.arrived)
            self.whole_total += took
            self.latencies.append(took)
        while self.line and len(self.running) < room:
            request = self.line.popleft()
            self.running.append(request)
            self.first_total += self._count(self.first, self.now - request.arrived + TICK)

    def _count(self, counts: list[float], seconds: float) -> float:
        counts[bisect_left(BOUNDS, seconds)] += 1
        return seconds

    def _poisson(self, mean: float) -> int:
        count, left = 0, self.rng.expovariate(1.0)
        while left < mean:
            count, left = count + 1, left + self.rng.expovariate(1.0)
        return count

    def _decide(self) -> None:
        wait = self.now - self.line[0].arrived if self.line else 0.0
        klass = ClassName.Q2
        self.counters.observe(
            CounterSample(
                gateway="gw",
                started_at=START - 3600,
                at=self.now,
                received_at=self.now,
                offered_requests=self.offered,
                offered_tokens=100.0 * self.offered,
                completed=self.completed,
                rejected=0.0,
                in_flight=len(self.running),
                queued=len(self.line),
                buffered=0.0,
                oldest_wait_seconds=wait,
                seats=self.ready * self.seats,
                ready_endpoints=self.ready,
            ),
            GatewayLatencies(
                first_token={klass: LatencyHistogram(BOUNDS, tuple(self.first), self.first_total)},
                whole={klass: LatencyHistogram(BOUNDS, tuple(self.whole), self.whole_total)},
                oldest_wait={klass: wait},
            ),
        )
        lead = LeadTime(self.start_seconds + 2.0, 5)
        observed = ScalingInputs(
            current=self.replicas,
            ready=self.ready,
            demand=self.counters.demand(self.now, lead_seconds=lead.seconds),
            seats_per_replica=self.seats,
            latencies=self.counters.latencies(self.now),
            lead_time=lead,
        )
        decision, self.history = decide(self.policy, observed, self.history, self.now)
        self.decisions.append(decision)
        rise = decision.replicas - self.replicas
        if rise > 0:
            self.ready_at += [self.now + self.start_seconds] * rise
        elif rise < 0:
            self.ready_at = sorted(self.ready_at)[: decision.replicas]
        self.replicas = decision.replicas

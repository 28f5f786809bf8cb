"""Rates of the three readers, whatever happens to counters, processes, clocks and responses."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_samples import silent
from r1_common.contracts.unavailable import Unavailable
from r1_operator.api.scaling import ClassName
from r1_operator.plan.signals.class_arrivals import MEMORY_SECONDS, ClassArrivals
from r1_operator.plan.signals.counter_sample import CounterSample
from r1_operator.plan.signals.counter_store import STALE_SECONDS, CounterStore
from r1_operator.plan.signals.demand import Demand
from r1_operator.plan.signals.latencies import Latencies
from r1_operator.plan.signals.latency_histograms import GatewayLatencies, LatencyHistogram

WALL, OURS = 1.8e9, 9000.0
Q1 = ClassName.Q1
LATEST_SECONDS = 10.0
"""Longest delay of a response in these tests; the poller gives up after 1.5 s."""

EVENTS = ("none", "none", "none", "route recreated", "restart", "clock back", "clock forward")
DELIVERIES = ("at once", "at once", "at once", "late", "twice", "lost")


@dataclass(frozen=True)
class Step:
    """What happens before one poll, and what happens to its response."""

    seconds: float
    requests: int
    event: str
    delivery: str
    delay: float


steps = st.lists(
    st.builds(
        Step,
        st.floats(0.5, 40.0),
        st.integers(0, 500),
        st.sampled_from(EVENTS),
        st.sampled_from(DELIVERIES),
        st.floats(0.1, LATEST_SECONDS),
    ),
    min_size=1,
    max_size=40,
)


@dataclass
class Gateway:
    """One gateway as it is: what it counted, and what it reports."""

    has_uptime: bool = True
    now: float = 0.0
    started: float = -5000.0
    set_by: float = 0.0
    started_at: float = WALL - 5000.0
    counted: int = 0
    arrived: list[tuple[float, int]] = field(default_factory=list)

    def advance(self, step: Step) -> None:
        """Let time pass, with one event and requests that each take 0.2 s."""
        self.now += step.seconds
        if step.event == "restart":
            self.started, self.counted = self.now - step.seconds / 2, 0
            self.started_at = WALL + self.started + self.set_by
        elif step.event == "route recreated":
            self.counted = 0
        elif step.event.startswith("clock"):
            self.set_by += {"clock back": -3600.0, "clock forward": 600.0}[step.event]
        self.counted += step.requests
        self.arrived.append((self.now, step.requests))

    def response(self) -> tuple[CounterSample, GatewayLatencies]:
        """The response to a poll at this moment, without the time of its receipt."""
        count = float(self.counted)
        histogram = {Q1: LatencyHistogram((0.5,), (count, 0.0), 0.2 * count)}
        sample = silent(
            started_at=self.started_at,
            at=WALL + self.now + self.set_by,
            offered_requests=count,
            offered_tokens=10 * count,
            completed=count,
            offered_by_class={Q1: count},
            ready_endpoints=2.0,
            uptime=self.now - self.started if self.has_uptime else None,
        )
        return sample, GatewayLatencies(histogram, histogram)

    def arrived_since(self, moment: float) -> int:
        """Requests that arrived after `moment`."""
        return sum(count for at, count in self.arrived if at > moment)


@dataclass
class Operator:
    """The counter store, and what it received."""

    counters: CounterStore = field(default_factory=CounterStore)
    pending: list[tuple[float, float, CounterSample, GatewayLatencies]] = field(
        default_factory=list
    )
    newest_made: float = float("-inf")

    def poll(self, gateway: Gateway, step: Step) -> None:
        """Poll once; late responses of earlier polls arrive first."""
        for due in sorted(one for one in self.pending if one[0] <= gateway.now):
            self.receive(*due)
        self.pending = [one for one in self.pending if one[0] > gateway.now]
        sample, latencies = gateway.response()
        if step.delivery == "late":
            self.pending.append((gateway.now + step.delay, gateway.now, sample, latencies))
        elif step.delivery != "lost":
            self.receive(gateway.now, gateway.now, sample, latencies)
        if step.delivery == "twice":
            self.pending.append((gateway.now + step.delay, gateway.now, sample, latencies))

    def receive(
        self, at: float, made: float, sample: CounterSample, latencies: GatewayLatencies
    ) -> None:
        """Receive a response that was made at `made`."""
        self.newest_made = max(self.newest_made, made)
        self.counters.observe(replace(sample, received_at=OURS + at), latencies)

    def check(self, gateway: Gateway) -> None:
        """Compare the three readings with what happened."""
        now = OURS + gateway.now
        demand = self.counters.demand(now, {"a"})
        arrivals = self.counters.class_arrivals(now, {"a"})
        latencies = self.counters.latencies(now, {"a"})
        total = sum(count for _, count in gateway.arrived)
        if isinstance(demand, Demand):
            assert demand.completed is not None
            assert 0 <= demand.completed <= total
            for rate in (demand.requests_per_second, demand.completed_per_replica):
                if not isinstance(rate, Unavailable):
                    assert 0 <= rate < float("inf")
        if isinstance(arrivals, ClassArrivals):
            assert 0 <= arrivals.arrivals[Q1] <= total / MEMORY_SECONDS + 1e-9
        if isinstance(latencies, Latencies):
            for recent in (*latencies.whole.values(), *latencies.first_token.values()):
                assert min(recent.durations.counts) >= 0
                assert recent.durations.count <= total
                assert recent.durations.mean() == pytest.approx(0.2)
        if gateway.has_uptime and gateway.now - self.newest_made > STALE_SECONDS + LATEST_SECONDS:
            for reading in (demand, arrivals, latencies):
                assert isinstance(reading, Unavailable), "a stale figure passes for a fresh one"


@settings(max_examples=300, deadline=None)
@given(steps=steps)
def test_no_reader_counts_a_request_twice_or_shows_a_stale_rate(steps: list[Step]) -> None:
    gateway, operator = Gateway(), Operator()
    for step in steps:
        gateway.advance(step)
        operator.poll(gateway, step)
        operator.check(gateway)


@settings(max_examples=150, deadline=None)
@given(steps=steps, recreated=st.booleans())
def test_gateways_without_uptime_are_not_counted_twice(steps: list[Step], recreated: bool) -> None:
    """Their late responses cannot be told from a recreated route, so not both in one run."""
    gateway, operator = Gateway(has_uptime=False), Operator()
    for step in steps:
        if recreated and step.delivery in ("late", "twice"):
            step = replace(step, delivery="at once")
        elif not recreated and step.event in ("route recreated", "restart"):
            step = replace(step, event="none")
        gateway.advance(step)
        operator.poll(gateway, step)
        operator.check(gateway)


@pytest.mark.parametrize("has_uptime", [True, False])
@settings(max_examples=100, deadline=None)
@given(steps=steps)
def test_after_any_disturbance_two_quiet_minutes_give_the_true_rates(
    has_uptime: bool, steps: list[Step]
) -> None:
    gateway, operator = Gateway(has_uptime=has_uptime), Operator()
    quiet = [Step(2.0, 10, "none", "at once", 0.1)] * 90
    for step in (*steps, *quiet):
        gateway.advance(step)
        operator.poll(gateway, step)
    now = OURS + gateway.now
    demand = operator.counters.demand(now, {"a"})
    arrivals = operator.counters.class_arrivals(now, {"a"})
    latencies = operator.counters.latencies(now, {"a"})
    assert isinstance(demand, Demand)
    assert demand.requests_per_second == pytest.approx(5.0)
    assert demand.completed_per_replica == pytest.approx(2.5)
    assert isinstance(arrivals, ClassArrivals)
    # Bounds: rates of a disturbance decay by 180 s / 30 s; steps of 2 s round up by 3 %.
    disturbed = sum(step.requests for step in steps) / MEMORY_SECONDS * 2.7**-6
    assert 4.9 <= arrivals.arrivals[Q1] <= 5.2 + disturbed
    assert isinstance(latencies, Latencies)
    assert latencies.whole[Q1].durations.count == pytest.approx(5.0 * 30, rel=0.2)


def test_a_late_response_of_a_replaced_process_is_not_a_restart() -> None:
    gateway, operator = Gateway(), Operator()
    for _ in range(5):
        gateway.advance(Step(2.0, 100, "none", "at once", 0.1))
        operator.poll(gateway, Step(2.0, 100, "none", "at once", 0.1))
    late, latencies = gateway.response()
    gateway.advance(Step(2.0, 7, "restart", "at once", 0.1))
    operator.poll(gateway, Step(2.0, 7, "restart", "at once", 0.1))
    operator.receive(gateway.now + 0.5, gateway.now - 2.0, late, latencies)
    demand = operator.counters.demand(OURS + gateway.now + 0.5, {"a"})
    assert isinstance(demand, Demand)
    assert demand.completed == 4 * 100 + 7


def test_a_recreated_route_counts_from_zero_for_every_reader() -> None:
    gateway, operator = Gateway(), Operator()
    for number in range(60):
        event = "route recreated" if number == 50 else "none"
        step = Step(2.0, 10, event, "at once", 0.1)
        gateway.advance(step)
        operator.poll(gateway, step)
    now = OURS + gateway.now
    demand = operator.counters.demand(now, {"a"})
    arrivals = operator.counters.class_arrivals(now, {"a"})
    latencies = operator.counters.latencies(now, {"a"})
    assert isinstance(demand, Demand)
    assert isinstance(arrivals, ClassArrivals)
    assert isinstance(latencies, Latencies)
    assert demand.requests_per_second == pytest.approx(5.0)
    assert arrivals.arrivals[Q1] == pytest.approx(5.0, rel=0.1)
    assert latencies.whole[Q1].durations.count == pytest.approx(5.0 * 30, rel=0.2)

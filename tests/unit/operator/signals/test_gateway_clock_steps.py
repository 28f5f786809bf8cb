"""A step of a gateway's wall clock changes neither rates nor latencies."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_samples import silent
from r1_common.contracts.unavailable import Unavailable
from r1_operator.api.scaling import ClassName
from r1_operator.plan.signals.class_arrivals import ClassArrivals
from r1_operator.plan.signals.counter_sample import CounterSample
from r1_operator.plan.signals.counter_store import CounterStore
from r1_operator.plan.signals.demand import Demand
from r1_operator.plan.signals.latencies import Latencies
from r1_operator.plan.signals.latency_histograms import GatewayLatencies, LatencyHistogram

T = 1.8e9
STEPS = st.lists(
    st.tuples(st.integers(3, 110), st.sampled_from([-3600.0, -600.0, 600.0, 365 * 86400.0])),
    max_size=4,
)


def wall(second: int, steps: list[tuple[int, float]]) -> float:
    return T + second + sum(by for moment, by in steps if second >= moment)


def test_demand_is_read_on_after_the_gateway_clock_is_set_back_by_600_s() -> None:
    counters = CounterStore()
    figures = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 8.0, 1.0)
    for t in range(60):
        counters.observe(CounterSample("gw", T - 5000, T + t, T + t, 5.0 * t, *figures))
    for t in range(60, 90):
        counters.observe(CounterSample("gw", T - 5000, T + t - 600, T + t, 5.0 * t, *figures))
    demand = counters.demand(T + 89, {"gw"})
    assert isinstance(demand, Demand)
    assert demand.requests_per_second == pytest.approx(5.0)


def test_a_clock_set_back_beyond_the_start_of_the_gateway_is_no_fault() -> None:
    counters = CounterStore()
    for t in range(60):
        at = T + t if t < 30 else T + t - 3600
        counters.observe(
            silent(started_at=T - 5, at=at, received_at=T + t, offered_requests=5.0 * t)
        )
    demand = counters.demand(T + 59, {"a"})
    assert isinstance(demand, Demand)
    assert demand.requests_per_second == pytest.approx(5.0, rel=0.05)


@pytest.mark.parametrize("uptime", [True, False])
@settings(max_examples=60, deadline=None)
@given(steps=STEPS, period=st.sampled_from([1, 2, 5]))
def test_demand_is_the_same_with_and_without_steps_of_the_gateway_clock(
    uptime: bool, steps: list[tuple[int, float]], period: int
) -> None:
    def read(steps: list[tuple[int, float]]) -> list[Demand | Unavailable]:
        counters, readings = CounterStore(), []
        for t in range(0, 120, period):
            counters.observe(
                silent(
                    started_at=T - 5000,
                    at=wall(t, steps),
                    received_at=9000.0 + t,
                    offered_requests=7.0 * t + (40.0 * max(0, t - 80)),
                    completed=6.0 * t,
                    ready_endpoints=3.0,
                    uptime=5000.0 + t if uptime else None,
                )
            )
            readings.append(counters.demand(9000.0 + t, {"a"}))
        return readings

    for plain, stepped in zip(read([]), read(steps), strict=True):
        assert isinstance(plain, Demand)
        assert isinstance(stepped, Demand)
        for name in ("requests_per_second", "completed_per_replica"):
            expected, actual = getattr(plain, name), getattr(stepped, name)
            if isinstance(expected, Unavailable):
                assert actual == expected
            else:
                assert actual == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("uptime", [True, False])
@settings(max_examples=60, deadline=None)
@given(steps=STEPS)
def test_class_arrivals_are_the_same_with_and_without_steps_of_the_gateway_clock(
    uptime: bool, steps: list[tuple[int, float]]
) -> None:
    def read(steps: list[tuple[int, float]]) -> list[ClassArrivals | Unavailable]:
        counters, readings = CounterStore(), []
        for t in range(0, 120, 2):
            counters.observe(
                silent(
                    started_at=T - 5000,
                    at=wall(t, steps),
                    received_at=9000.0 + t,
                    offered_by_class={ClassName.Q1: 3.0 * min(t, 90)},
                    uptime=5000.0 + t if uptime else None,
                )
            )
            readings.append(counters.class_arrivals(9000.0 + t, {"a"}))
        return readings

    for plain, stepped in zip(read([]), read(steps), strict=True):
        assert isinstance(plain, ClassArrivals)
        assert isinstance(stepped, ClassArrivals)
        assert stepped.arrivals == pytest.approx(plain.arrivals, rel=1e-6)


@pytest.mark.parametrize("uptime", [True, False])
@settings(max_examples=60, deadline=None)
@given(steps=STEPS)
def test_latencies_are_the_same_with_and_without_steps_of_the_gateway_clock(
    uptime: bool, steps: list[tuple[int, float]]
) -> None:
    def read(steps: list[tuple[int, float]]) -> list[Latencies | Unavailable]:
        counters, readings = CounterStore(), []
        for t in range(0, 240, 2):
            histogram = LatencyHistogram((1.0,), (2.0 * t, float(max(0, t - 100))), 0.5 * t)
            counters.observe(
                silent(
                    started_at=T - 5000,
                    at=wall(t, steps),
                    received_at=9000.0 + t,
                    uptime=5000.0 + t if uptime else None,
                ),
                GatewayLatencies(whole={ClassName.Q2: histogram}),
            )
            readings.append(counters.latencies(9000.0 + t, {"a"}))
        return readings

    assert read(steps) == read([])


def test_a_restart_of_the_gateway_and_a_step_of_its_clock_at_once_count_from_zero() -> None:
    counters = CounterStore()
    for t in range(60):
        counters.observe(
            silent(started_at=T, at=T + t, received_at=9000.0 + t, offered_requests=100 + 5.0 * t)
        )
    for t in range(60, 90):
        since = t - 60
        counters.observe(
            silent(
                started_at=T - 3600,
                at=T - 3600 + since,
                received_at=9000.0 + t,
                offered_requests=5.0 * since,
                uptime=float(since),
            )
        )
    demand = counters.demand(9089.0, {"a"})
    assert isinstance(demand, Demand)
    assert demand.requests_per_second == pytest.approx(5.0, rel=0.05)


def test_a_repeated_response_with_uptime_is_no_new_sample() -> None:
    one = silent(started_at=T, at=T + 5, received_at=9000.0, offered_requests=5.0, uptime=900.0)
    counters = CounterStore()
    for t in range(60):
        counters.observe(replace(one, received_at=9000.0 + t))
    assert isinstance(counters.demand(9059.0, {"a"}), Unavailable)

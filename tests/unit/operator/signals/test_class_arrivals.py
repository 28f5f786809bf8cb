"""Arrival rates by class from counters: decay, restarts, gateways without the figures."""

from __future__ import annotations

import pytest

from gateway_samples import silent
from r1_common.contracts.unavailable import Unavailable
from r1_operator.api.scaling import ClassName
from r1_operator.plan.signals.class_arrivals import ClassArrivals
from r1_operator.plan.signals.counter_sample import CounterSample
from r1_operator.plan.signals.counter_store import CounterStore

Q1, Q2, Q3 = ClassName
START = 1_700_000_000.0


def sample(at: float, urgent: float, *, gateway: str = "a", **more: object) -> CounterSample:
    figures = {
        "gateway": gateway,
        "started_at": START - 3600,
        "at": START + at,
        "received_at": START + at,
        "offered_requests": urgent,
        "seats": 16.0,
        "ready_endpoints": 2.0,
        "offered_by_class": {Q1: urgent, Q2: 0.0, Q3: 0.0},
        "seat_seconds": 12.0,
    }
    return silent(**(figures | more))


def known(counters: CounterStore, at: float, *gateways: str) -> ClassArrivals:
    read_arrivals = counters.class_arrivals(START + at, gateways)
    assert isinstance(read_arrivals, ClassArrivals)
    return read_arrivals


def test_a_steady_stream_is_counted_and_fades_when_it_ends() -> None:
    counters = CounterStore()
    for second in range(0, 302, 2):
        counters.observe(sample(second, 3.0 * second))
    read_arrivals = known(counters, 300, "a")
    assert read_arrivals.arrivals[Q1] == pytest.approx(3.0, rel=0.1)
    assert (read_arrivals.arrivals[Q3], read_arrivals.seat_seconds, read_arrivals.seats) == (
        0.0,
        12.0,
        16,
    )
    for second in range(302, 422, 2):
        counters.observe(sample(second, 900.0))
    assert known(counters, 420, "a").arrivals[Q1] < 0.1


def test_gateways_are_added_up_and_share_the_seats() -> None:
    counters = CounterStore()
    for second in range(0, 302, 2):
        for name, rate in (("a", 1.0), ("b", 2.0)):
            counters.observe(sample(second, rate * second, gateway=name))
    read_arrivals = known(counters, 300, "a", "b")
    assert read_arrivals.arrivals[Q1] == pytest.approx(3.0, rel=0.1)
    assert (read_arrivals.seats, read_arrivals.gateways) == (32, 2)


def test_a_restart_of_a_gateway_changes_no_arrival_rate() -> None:
    counters = CounterStore()
    for second in range(0, 302, 2):
        counters.observe(sample(second, 3.0 * second))
    counters.observe(sample(302, 6.0, started_at=START + 300))
    again = known(counters, 302, "a").arrivals[Q1]
    assert again == pytest.approx(3.0, rel=0.1)


def test_a_gateway_that_does_not_say_makes_the_whole_unknown() -> None:
    counters = CounterStore()
    counters.observe(sample(0, 1.0))
    counters.observe(sample(0, 1.0, gateway="old", offered_by_class=None))
    read_arrivals = counters.class_arrivals(START + 1, ("a", "old"))
    assert isinstance(read_arrivals, Unavailable)
    assert read_arrivals.message.startswith("1 of 2 gateways")
    assert isinstance(counters.class_arrivals(START + 100, ("a",)), Unavailable), (
        "no recent response"
    )
    assert isinstance(CounterStore().class_arrivals(START, ()), Unavailable)


def test_impossible_figures_are_not_taken_in() -> None:
    counters = CounterStore()
    counters.observe(sample(0, 1.0, offered_by_class={Q1: float("nan"), Q2: 0.0, Q3: 0.0}))
    assert isinstance(counters.class_arrivals(START, ("a",)), Unavailable)


def test_one_that_left_is_forgotten() -> None:
    counters = CounterStore()
    counters.observe(sample(0, 1.0))
    counters.observe(sample(0, 1.0, gateway="b"))
    assert known(counters, 1, "a").gateways == 1

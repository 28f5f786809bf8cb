"""Rates from counters: windows, bursts, restarts, stale gateways."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from r1_common.contracts.unavailable import Unavailable
from r1_operator.plan.signals.counter_sample import CounterSample
from r1_operator.plan.signals.counter_store import CounterStore
from r1_operator.plan.signals.demand import Demand
from r1_operator.plan.signals.gateway_signals import read_signals

OURS = 50_000.0  # the operator's clock differs from the gateway's
Feed = Callable[..., Demand | Unavailable]


def sample(at: float, requests: float, gateway: str = "gw-0", **figures: Any) -> CounterSample:
    plain = CounterSample(
        gateway=gateway,
        started_at=0.0,
        at=at,
        received_at=at + OURS,
        offered_requests=requests,
        offered_tokens=requests * 100,
        completed=requests * 0.5,
        rejected=0.0,
        in_flight=2.0,
        queued=1.0,
        buffered=0.0,
        oldest_wait_seconds=0.25,
        seats=16.0,
        ready_endpoints=2.0,
    )
    return replace(plain, **figures)


def fed(*samples: CounterSample) -> CounterStore:
    counters = CounterStore()
    for one in samples:
        counters.observe(one)
    return counters


def rate(counters: CounterStore, at: float) -> float:
    demand = counters.demand(at + OURS)
    assert isinstance(demand, Demand)
    assert not isinstance(demand.requests_per_second, Unavailable)
    return demand.requests_per_second


def test_a_steady_rate_is_read_exactly() -> None:
    counters = fed(*(sample(1000.0 + t, 7.0 * t) for t in range(120)))
    demand = counters.demand(1119.0 + OURS)
    assert isinstance(demand, Demand)
    assert demand.requests_per_second == pytest.approx(7.0)
    assert demand.tokens_per_second == pytest.approx(700.0)
    assert demand.completed_per_replica == pytest.approx(7.0 * 0.5 / 2)
    assert (demand.in_flight, demand.queued, demand.oldest_wait_seconds) == (2.0, 1.0, 0.25)
    assert demand.missing == ()


@pytest.mark.parametrize("every", [1.0, 1.7, 5.0])
def test_the_mean_looks_back_a_minute_and_no_further(every: float) -> None:
    moments = [1000.0 + every * i for i in range(int(240 / every))]
    # Ten a second until 1120, nothing since: half of the minute before 1150 was busy.
    counters = fed(
        *(sample(at, 10.0 * (min(at, 1120.0) - 1000.0)) for at in moments if at <= 1150.0)
    )
    newest = max(at for at in moments if at <= 1150.0)
    assert rate(counters, newest) == pytest.approx(
        10.0 * (60.0 - (newest - 1120.0)) / 60.0, abs=0.4
    )


def test_a_sure_burst_counts_before_the_minute_is_over() -> None:
    calm = [sample(1000.0 + t, 2.0 * t) for t in range(61)]
    storm = [sample(1060.0 + t, 120.0 + 50.0 * t) for t in range(1, 11)]
    burst = rate(fed(*calm, *storm), 1070.0)
    assert 45.0 < burst < 50.0  # the mean of the minute would be 10


def test_a_burst_shorter_than_the_lead_time_adds_no_replicas() -> None:
    calm = [sample(1000.0 + t, 2.0 * t) for t in range(61)]
    storm = [sample(1060.0 + t, 120.0 + 50.0 * t) for t in range(1, 11)]
    counters = fed(*calm, *storm)
    rates = []
    for lead in (10.0, 20.0, 60.0):
        demand = counters.demand(1070.0 + OURS, lead_seconds=lead)
        assert isinstance(demand, Demand)
        rates.append(demand.requests_per_second)
    # Ten seconds of 50/s: full rate, rate over 30 s with its lower bound, rate over a minute.
    assert rates == pytest.approx([45.5, 16.4, 10.0], abs=0.1)


def test_a_handful_of_arrivals_is_no_burst() -> None:
    calm = [sample(1000.0 + t, 0.1 * t) for t in range(61)]
    few = [sample(1060.0 + t, 6.0 + 0.3 * t) for t in range(1, 11)]
    assert rate(fed(*calm, *few), 1070.0) == pytest.approx((8.0 / 60.0), rel=0.05)


class TestRestartsOfAGateway:
    def test_a_new_start_counts_from_zero(self) -> None:
        before = [sample(1000.0 + t, 500.0 + 5.0 * t) for t in range(60)]
        after = [sample(1060.0 + t, 5.0 * t, started_at=1060.0) for t in range(1, 30)]
        assert rate(fed(*before, *after), 1089.0) == pytest.approx(5.0, rel=0.03)

    def test_a_counter_that_falls_is_a_restart_too(self) -> None:
        before = [sample(1000.0 + t, 500.0 + 5.0 * t) for t in range(60)]
        after = [sample(1060.0 + t, 5.0 * t) for t in range(1, 30)]
        assert rate(fed(*before, *after), 1089.0) == pytest.approx(5.0, rel=0.03)

    def test_a_young_gateway_is_read_from_its_first_answer(self) -> None:
        counters = fed(sample(1010.0, 50.0, started_at=1000.0))
        assert rate(counters, 1010.0) == pytest.approx(5.0)

    def test_an_old_one_needs_a_second_look(self) -> None:
        demand = fed(sample(1000.0, 1e6)).demand(1000.0 + OURS)
        assert isinstance(demand, Demand)
        assert isinstance(demand.requests_per_second, Unavailable)
        assert demand.requests_per_second.reason == "WarmingUp"
        assert demand.queued == 1.0

    def test_a_second_gateway_behind_the_same_address_is_not_counted_as_new(self) -> None:
        """Its counters are from before: the series begins anew once the first one is stale."""
        counters = fed(*(sample(1000.0 + t, 5.0 * t) for t in range(60)))
        for t in range(60, 75):
            other: dict[str, Any] = {"started_at": 1.0, "received_at": 1000.0 + t + OURS}
            counters.observe(sample(500.0 + t, 9e6 + 5.0 * t, **other))
            assert rate(counters, 1000.0 + t) == pytest.approx(5.0)
        for t in range(75, 100):
            other = {"started_at": 1.0, "received_at": 1000.0 + t + OURS}
            counters.observe(sample(500.0 + t, 9e6 + 5.0 * t, **other))
        assert rate(counters, 1099.0) == pytest.approx(5.0)


class TestSilence:
    def test_demand_without_any_signal_is_unavailable(self) -> None:
        nothing = CounterStore().demand(OURS)
        assert isinstance(nothing, Unavailable)
        assert nothing.reason == "NoSignals"

    def test_stale(self) -> None:
        counters = fed(*(sample(1000.0 + t, 5.0 * t) for t in range(60)))
        assert isinstance(counters.demand(1059.0 + 15.0 + OURS), Demand)
        stale = counters.demand(1059.0 + 16.0 + OURS)
        assert isinstance(stale, Unavailable)
        assert stale.reason == "StaleSignals"
        assert "for 16 s" in stale.message

    def test_a_repeated_response_is_no_new_sample(self) -> None:
        same = sample(1000.0, 5.0)
        counters = fed(same)
        for t in range(60):
            counters.observe(replace(same, received_at=same.received_at + t))
        assert isinstance(counters.demand(1060.0 + OURS), Unavailable)

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
    def test_impossible_figures_are_not_data(self, value: float) -> None:
        counters = fed(sample(1000.0, 1.0), sample(1001.0, value))
        broken = counters.demand(1001.0 + OURS)
        assert isinstance(broken, Unavailable)
        assert broken.reason == "InvalidSignals"
        counters.observe(sample(1010.0, 51.0))
        assert rate(counters, 1010.0) == pytest.approx(5.0)


class TestSeveralGateways:
    def test_their_demand_adds_up(self) -> None:
        counters = fed(
            *(sample(1000.0 + t, 3.0 * t) for t in range(60)),
            *(sample(1000.0 + t, 4.0 * t, "gw-1") for t in range(60)),
        )
        assert rate(counters, 1059.0) == pytest.approx(7.0)
        demand = counters.demand(1059.0 + OURS)
        assert isinstance(demand, Demand)
        assert (demand.in_flight, demand.queued, demand.seats) == (4.0, 2.0, 32.0)

    def test_a_silent_one_is_named(self) -> None:
        counters = fed(
            *(sample(1000.0 + t, 3.0 * t, "gw-1") for t in range(30)),
            *(sample(1000.0 + t, 3.0 * t) for t in range(60)),
        )
        demand = counters.demand(1059.0 + OURS, gateways=("gw-0", "gw-1", "gw-2"))
        assert isinstance(demand, Demand)
        assert demand.missing == ("gw-1", "gw-2")
        assert demand.requests_per_second == pytest.approx(3.0)

    def test_one_that_was_scaled_away_is_forgotten(self) -> None:
        counters = fed(
            *(sample(1000.0 + t, 3.0 * t, "gw-1") for t in range(30)),
            *(sample(1000.0 + t, 3.0 * t) for t in range(60)),
        )
        demand = counters.demand(1059.0 + OURS, gateways=("gw-0",))
        assert isinstance(demand, Demand)
        assert demand.missing == ()


def test_memory_is_bounded_however_often_it_is_fed() -> None:
    counters = fed(*(sample(1000.0 + t / 10, t / 2) for t in range(6000)))
    [series] = counters._series.values()
    assert len(series.demand.points) <= 35
    assert rate(counters, 1599.9) == pytest.approx(5.0, rel=0.02)


class TestSignals:
    def answer(self, **changes: Any) -> dict[str, Any]:
        route = {
            "offeredRequests": {"Q1": 1, "Q2": 2, "Q3": 3},
            "offeredTokens": {"Q1": 10, "Q2": 20, "Q3": 30},
            "completed": {"Q1": 1},
            "failed": {},
            "rejected": {"Q3": 1},
            "cancelled": {},
            "queued": {"Q1": 1, "Q3": 4},
            "oldestWaitSeconds": {"Q1": 0.1, "Q3": 7.5},
            "inFlight": {"Q1": 2, "Q2": 2},
            "queuedWithoutEndpoints": 0,
            "seats": 16,
            "readyEndpoints": 2,
        }
        return {
            "gateway": "gw-0",
            "startedAt": 100.0,
            "at": 123.4,
            "routes": {"default/r1": {**route, **changes}, "default/other": route},
        }

    def test_the_contract_is_read_and_classes_add_up(self) -> None:
        samples = read_signals(self.answer(), 500.0)
        assert not isinstance(samples, Unavailable)
        one = samples["default/r1"]
        assert isinstance(one, CounterSample)
        assert (one.offered_requests, one.offered_tokens, one.queued) == (6.0, 60.0, 5.0)
        assert (one.oldest_wait_seconds, one.in_flight, one.received_at) == (7.5, 4.0, 500.0)

    @pytest.mark.parametrize("value", [None, "many", [1], {"Q1": "one"}, {"Q1": None}])
    def test_a_broken_route_leaves_the_others_alone(self, value: Any) -> None:
        samples = read_signals(self.answer(offeredRequests=value), 500.0)
        assert not isinstance(samples, Unavailable)
        assert isinstance(samples["default/r1"], Unavailable)
        assert isinstance(samples["default/other"], CounterSample)

    @pytest.mark.parametrize("answer", [None, [], "x", {}, {"routes": 1}, {"routes": {}}])
    def test_an_answer_that_is_none(self, answer: Any) -> None:
        assert isinstance(read_signals(answer, 500.0), Unavailable)

"""Recent latencies from histograms: windows, restarts, stale and several gateways."""

from typing import Any

import pytest

from gateway_samples import silent
from r1_common.contracts.unavailable import Unavailable
from r1_operator.api.scaling import ClassName
from r1_operator.plan.signals.counter_sample import CounterSample
from r1_operator.plan.signals.counter_store import CounterStore
from r1_operator.plan.signals.gateway_signals import read_latencies
from r1_operator.plan.signals.latencies import Latencies
from r1_operator.plan.signals.latency_histograms import GatewayLatencies, LatencyHistogram

OURS = 50_000.0  # the operator's clock differs from the gateway's
BOUNDS = (0.1, 1.0)
Q2 = ClassName.Q2


Sample = tuple[CounterSample, GatewayLatencies]


def sample(
    at: float, fast: float, slow: float, gateway: str = "gw-0", started: float = 0.0
) -> Sample:
    """Counters: number of responses of 50 ms and of 500 ms since the start."""
    durations = LatencyHistogram(BOUNDS, (fast, slow, 0.0), fast * 0.05 + slow * 0.5)
    clocks = silent(gateway=gateway, started_at=started, at=at, received_at=at + OURS)
    return clocks, GatewayLatencies({Q2: durations}, {Q2: durations}, {Q2: 1.5})


def fed(*samples: Sample) -> CounterStore:
    counters = CounterStore()
    for counts, latencies in samples:
        counters.observe(counts, latencies)
    return counters


def read(counters: CounterStore, at: float, **more: Any) -> Latencies:
    latencies = counters.latencies(at + OURS, **more)
    assert isinstance(latencies, Latencies), latencies
    return latencies


def test_a_mean_is_exact_and_a_percentile_linear_within_its_bucket() -> None:
    durations = LatencyHistogram(BOUNDS, (80.0, 20.0, 0.0), 14.0)
    assert durations.mean() == pytest.approx(0.14)
    assert durations.quantile(0.5) == pytest.approx(0.0625)
    assert durations.quantile(0.9) == pytest.approx(0.55)
    assert LatencyHistogram(BOUNDS, (0.0, 0.0, 5.0), 50.0).quantile(0.5) == 1.0
    assert LatencyHistogram(BOUNDS, (0.0, 0.0, 0.0), 0.0).mean() is None
    assert LatencyHistogram(BOUNDS, (0.0, 0.0, 0.0), 0.0).quantile(0.9) is None


def test_only_the_last_half_minute_counts() -> None:
    slow_then_fast = [
        sample(1000.0 + 2 * t, 10.0 * max(0, t - 60), 10.0 * min(t, 60)) for t in range(100)
    ]
    recent = read(fed(*slow_then_fast), 1198.0).whole[Q2]
    assert recent.seconds == 30.0
    assert recent.durations.mean() == pytest.approx(0.05)
    assert recent.durations.count == pytest.approx(150.0, rel=0.2)


def test_where_little_finishes_two_minutes_count() -> None:
    rare = [sample(1000.0 + 2 * t, float(t // 20), 0.0) for t in range(100)]
    recent = read(fed(*rare), 1198.0).whole[Q2]
    assert recent.seconds == 120.0
    assert recent.durations.count == pytest.approx(3.0, abs=1.0)


def test_nothing_finished_is_no_latency() -> None:
    still = [sample(1000.0 + 2 * t, 50.0, 50.0) for t in range(100)]
    latencies = read(fed(*still), 1198.0)
    assert latencies.whole == {}
    assert latencies.oldest_wait[Q2] == 1.5


def test_a_young_gateway_is_read_from_its_start() -> None:
    latencies = read(fed(sample(1010.0, 10.0, 0.0, started=1000.0)), 1010.0)
    assert latencies.first_token[Q2].durations.count == 10.0


def test_an_old_one_needs_a_second_look() -> None:
    assert read(fed(sample(1000.0, 10.0, 0.0)), 1000.0).whole == {}


def test_latencies_before_a_restart_of_the_gateway_still_count() -> None:
    before = [sample(1000.0 + 2 * t, 500.0 + t, 0.0) for t in range(30)]
    after = [sample(1060.0 + 2 * t, 0.0, 10.0 * t, started=1060.0) for t in range(5)]
    latencies = read(fed(*before, *after), 1068.0).whole[Q2]
    assert latencies.durations.counts == (11.0, 40.0, 0.0), (
        "11 of the last 30 s are before the restart"
    )


def test_gateways_add_up_and_a_silent_one_makes_the_latency_unknown() -> None:
    both = fed(
        *(sample(1000.0 + 2 * t, 10.0 * t, 0.0) for t in range(20)),
        *(sample(1000.0 + 2 * t, 0.0, 10.0 * t, "gw-1") for t in range(20)),
    )
    latencies = read(both, 1038.0, gateways=("gw-0", "gw-1")).whole[Q2]
    assert latencies.durations.mean() == pytest.approx(0.275)
    unknown = both.latencies(1038.0 + OURS, ("gw-0", "gw-1", "gw-2"))
    assert isinstance(unknown, Unavailable)
    assert "gw-2" in unknown.message
    stale = both.latencies(1038.0 + OURS + 16.0)
    assert isinstance(stale, Unavailable)


def test_gateways_of_two_releases_are_not_added() -> None:
    other = LatencyHistogram((0.2,), (1.0, 1.0), 1.0)
    counters = fed(
        sample(1010.0, 10.0, 0.0, started=1000.0),
        (sample(1010.0, 0.0, 0.0, "gw-1", 1000.0)[0], GatewayLatencies({Q2: other}, {}, {})),
    )
    latencies = counters.latencies(1010.0 + OURS)
    assert isinstance(latencies, Unavailable)
    assert latencies.reason == "InvalidLatency"


def test_memory_is_bounded() -> None:
    counters = fed(*(sample(1000.0 + t / 10, float(t), 0.0) for t in range(6000)))
    assert len(counters._series["gw-0"].latencies.points) <= 30


class TestSignals:
    def answer(self, **route: Any) -> dict[str, Any]:
        plain = {
            "oldestWaitSeconds": {"Q1": 0.0, "Q2": 2.5},
            "timeToFirstToken": {"Q2": {"counts": [1, 2, 0], "sumSeconds": 1.5}},
            "latency": {},
        }
        return {
            "gateway": "gw-0",
            "startedAt": 100.0,
            "at": 200.0,
            "secondsBuckets": [0.1, 1.0],
            "routes": {"default/r1": plain | route},
        }

    def test_the_contract_is_read(self) -> None:
        latencies = read_latencies(self.answer(), "default/r1")
        assert latencies is not None
        assert latencies.first_token == {Q2: LatencyHistogram((0.1, 1.0), (1.0, 2.0, 0.0), 1.5)}
        assert latencies.oldest_wait[Q2] == 2.5
        assert latencies.whole == {}

    @pytest.mark.parametrize(
        "latency",
        [
            None,
            [],
            {"Q2": {}},
            {"Q2": {"counts": [1], "sumSeconds": 1.0}},
            {"Q2": {"counts": [1, 1, -1], "sumSeconds": 1.0}},
            {"Q2": {"counts": [1, 1, 1], "sumSeconds": float("nan")}},
            {"Q2": {"counts": "111", "sumSeconds": 1.0}},
        ],
    )
    def test_histograms_that_do_not_parse_are_unknown(self, latency: Any) -> None:
        assert read_latencies(self.answer(latency=latency), "default/r1") is None

    def test_an_older_gateway_tells_none(self) -> None:
        answer = self.answer()
        del answer["secondsBuckets"]
        assert read_latencies(answer, "default/r1") is None
        assert read_latencies(self.answer(), "default/other") is None

"""Load schedules of traces: compressed time, scaled rates, seeded arrivals, backfilled history."""

import random

import pytest

from r1_demo.load.arrivals import Caps, Curve, Share, counted, curve_of, draw, poisson_times, replay
from r1_demo.load.bundled_trace import servegen_m_small
from r1_demo.load.schedule import build_schedule
from r1_demo.setup.backfill import openmetrics
from r1_demo.setup.manifests import SHARES, build_resource
from r1_evaluation.traces.load import RateTrace, RecordedRequest, RequestTrace, UnreadableTrace
from r1_operator.api.v1 import parse

CAPS = Caps(prompt_tokens=64, output_tokens=16)
ONE = (Share("r1", "Q1", 1.0),)


def test_a_poisson_process_follows_its_rate() -> None:
    curve = Curve(10.0, (50.0, 0.0, 5.0), (True,) * 3)
    times = list(poisson_times(curve, random.Random(1)))
    assert times == sorted(times)
    parts = [sum(a <= t < a + 10 for t in times) for a in (0, 10, 20)]
    assert parts[0] == pytest.approx(500, abs=90)
    assert parts[1] == 0
    assert parts[2] == pytest.approx(50, abs=28)
    assert max(times) < 30


def test_the_same_seed_gives_the_same_load() -> None:
    trace = servegen_m_small()
    one, two, other = (
        build_schedule(trace, 60.0, 30.0, 5.0, SHARES, CAPS, seed) for seed in (1, 1, 2)
    )
    assert one.arrivals == two.arrivals
    assert one.arrivals != other.arrivals


class TestBundledTrace:
    PLAY = build_schedule(servegen_m_small(), 600.0, 90.0, 10.0, SHARES, CAPS, seed=14)

    def test_a_day_in_ten_minutes_runs_144_times_faster(self) -> None:
        assert self.PLAY.compression == 144
        assert self.PLAY.season == 600
        assert self.PLAY.trace_time(10) == "24 minutes"

    def test_history_and_live_part_are_contiguous(self) -> None:
        assert self.PLAY.history is not None
        assert self.PLAY.lead_in == pytest.approx(90, abs=4.2)
        whole = self.PLAY.history.seconds + self.PLAY.seconds
        assert whole == pytest.approx(14 * 600)

    def test_the_busiest_moment_has_the_peak_rate(self) -> None:
        assert max(self.PLAY.live.rates) == pytest.approx(10.0)
        assert self.PLAY.live.seconds == pytest.approx(690, abs=4.2)

    def test_arrivals_have_the_class_shares_and_capped_lengths(self) -> None:
        arrivals = self.PLAY.arrivals
        for share in SHARES:
            part = sum((a.model, a.klass) == (share.model, share.klass) for a in arrivals)
            assert part / len(arrivals) == pytest.approx(share.share, abs=0.03)
        assert max(a.prompt_tokens for a in arrivals) == 64
        assert max(a.output_tokens for a in arrivals) == 16
        assert min(a.output_tokens for a in arrivals) >= 8

    def test_gaps_are_interpolated_and_marked(self) -> None:
        assert not all(self.PLAY.live.measured)
        assert min(self.PLAY.live.rates) > 0


def test_a_trace_of_an_hour_has_no_history() -> None:
    trace = RateTrace("hour", 60.0, (60.0,) * 57)
    send_all = build_schedule(trace, 120.0, 90.0, 4.0, ONE, CAPS, seed=1)
    assert (send_all.history, send_all.season, send_all.lead_in) == (None, None, 0.0)
    assert send_all.seconds == pytest.approx(120)
    assert len(send_all.arrivals) == pytest.approx(480, abs=80)


def test_a_trace_without_requests_is_refused() -> None:
    with pytest.raises(UnreadableTrace, match="no requests in the part"):
        build_schedule(RateTrace("still", 60.0, (0.0,) * 60), 60.0, 30.0, 4.0, ONE, CAPS, seed=1)


def test_a_short_run_still_has_a_history() -> None:
    send_all = build_schedule(servegen_m_small(), 30.0, 90.0, 4.0, ONE, CAPS, seed=1)
    assert send_all.lead_in == pytest.approx(30.0)
    assert send_all.history is not None
    assert send_all.history.seconds == pytest.approx(12 * 30.0)


def test_recorded_requests_keep_their_times_and_are_sampled_to_the_peak() -> None:
    requests = tuple(RecordedRequest(10.0 + i, 5000, 3) for i in range(1000))
    trace = RequestTrace("azure", requests)
    send_all = build_schedule(trace, 100.0, 90.0, 5.0, ONE, CAPS, seed=1)
    assert send_all.compression == pytest.approx(10, rel=0.01)
    assert len(send_all.arrivals) == pytest.approx(500, abs=70)
    assert {(a.prompt_tokens, a.output_tokens) for a in send_all.arrivals} == {(64, 3)}
    everything = replay(trace, 100.0, 1.0, ONE, CAPS, seed=1)
    assert len(everything) == 1000
    assert everything[0].at == 0.0
    assert {a.at for a in send_all.arrivals} < {a.at for a in everything}


def test_counted_arrivals_have_the_rate_of_their_curve() -> None:
    curve = Curve(5.0, (20.0, 40.0), (True, True))
    arrivals = draw(curve, ONE, {0.0: 8.0, 1.0: 9.0}, {0.0: 2.0, 1.0: 3.0}, CAPS, seed=3)
    back = counted(arrivals, 10.0, 5.0)
    assert back.rates[1] == pytest.approx(40, rel=0.25)
    assert sum(back.rates) * 5.0 == len(arrivals)


class TestBackfill:
    def lines(self) -> list[str]:
        trace = RateTrace("t", 600.0, (600.0, None, None, 1200.0))
        curve = curve_of(trace, compression=60.0, scale=1 / 60)
        shares = (Share("chat", "Q1", 0.5), Share("notes", None, 0.5))
        return list(openmetrics(curve, shares, "default", ends_at=2000.0, every=1.0, seed=5))

    def samples(self, model: str) -> list[tuple[float, int]]:
        fields = [line.split() for line in self.lines() if f'inference="{model}"' in line]
        return [(float(at), int(count)) for _, count, at in fields]

    def test_the_backfill_is_the_gateways_counter_in_openmetrics(self) -> None:
        lines = self.lines()
        assert lines[1] == "# TYPE r1_gateway_requests_offered counter"
        assert lines[2].startswith(
            'r1_gateway_requests_offered_total{inference_namespace="default",'
            'inference="chat",class="Q1"} '
        )
        assert 'inference="notes",class="Q2"' in lines[-2]
        assert lines[-1] == "# EOF"

    def test_the_counter_ends_at_the_given_time_and_never_falls(self) -> None:
        samples = self.samples("chat")
        assert samples[-1][0] == 2000.0
        counts = [count for _, count in samples]
        assert counts == sorted(counts)
        assert counts[-1] == pytest.approx(0.5 * (10 * 10 + 20 * 15 + 10 * 20), rel=0.3)

    def test_a_gap_has_no_samples_and_the_counter_continues(self) -> None:
        samples = self.samples("chat")
        inside = [at for at, _ in samples if 1970.0 <= at < 1990.0]
        assert inside == []
        before = max(count for at, count in samples if at < 1970.0)
        after = min(count for at, count in samples if at >= 1990.0)
        assert after - before > 80


@pytest.mark.parametrize("season", [None, 120.0, 600.0])
@pytest.mark.parametrize("name", ["demo-chat", "demo-notes"])
def test_the_operator_accepts_the_resources(name: str, season: float | None) -> None:
    document = build_resource(
        name, 2.37, 30.0, season, seats=4, cpu_request="100m", cpu_limit="400m", memory="512Mi"
    )
    resource = parse(document | {"metadata": document["metadata"] | {"uid": "u", "generation": 1}})
    assert resource.spec.autoscaling is not None
    assert float(resource.spec.autoscaling.metrics[0].target.value) == 2.37

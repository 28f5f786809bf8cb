"""Safety of the policy with a dead or wrong forecast, over hours of realistic load.

On every load the policy never runs fewer replicas than a plain HPA at the same target, so it
overloads no more, at no more than twice its cost; and no more than the same policy without a
forecast. A policy whose count falls to what demand needs at once fails here: on bursty loads with
starts of five minutes the HPA's tolerance saves a quarter of the overload.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1_evaluation.leaderboard import policies, vectorized
from r1_evaluation.leaderboard.fluid import ServiceOutcome, outcome, serving
from r1_evaluation.leaderboard.forecast_replay import LEVELS, ReplayedForecast, lead_minutes
from r1_evaluation.leaderboard.policies import Policy, PolicyInputs
from r1_evaluation.leaderboard.scenario import MINUTE_STEPS, Floats, Ints, scenario_of
from r1_evaluation.traces.load import RateTrace

HOURS = 48


def recorded_like(seed: int, noise: float, bursts: float, swing: float) -> RateTrace:
    """Two days by the minute: a daily wave, noise whose size wanders, and bursts that decay."""
    drawn = np.random.default_rng(seed)
    minutes = HOURS * 60
    clock = np.arange(minutes) / 1440
    wave = 1 + swing * np.sin(2 * np.pi * clock) + 0.3 * swing * np.sin(6 * np.pi * clock)
    unsteady = noise * np.exp(np.cumsum(drawn.normal(0, 0.03, minutes)))
    rate = (
        1000
        * np.maximum(wave, 0.05)
        * np.exp(np.minimum(unsteady, 0.3) * drawn.normal(0, 1, minutes))
    )
    level = np.zeros(minutes)
    for begin in np.flatnonzero(drawn.random(minutes) < bursts):
        lasting = np.arange(minutes - begin)
        level[begin:] += drawn.uniform(0.2, 1.5) * np.exp(-lasting / drawn.uniform(3, 30))
    return RateTrace("recorded-like", 60.0, tuple((rate * (1 + level)).tolist()))


loads = st.builds(
    recorded_like,
    st.integers(0, 2**32 - 1),
    st.floats(0.01, 0.12),
    st.floats(0.0, 0.004),
    st.floats(0.0, 0.8),
)
starts = st.sampled_from([60, 120, 300])


def forecast(bench: PolicyInputs, factor: Floats | float) -> ReplayedForecast:
    """The real demand over the lead time, times a factor, every minute, always acting."""
    world = bench.world
    minute = np.arange(world.begin, len(world.demand)) // MINUTE_STEPS * MINUTE_STEPS
    ahead = lead_minutes(world.start_seconds) * MINUTE_STEPS
    padded = np.concatenate([world.demand, np.full(ahead, world.demand[-1])])
    peaks = np.lib.stride_tricks.sliding_window_view(padded, ahead).max(axis=1)[minute] * factor
    return ReplayedForecast(
        np.repeat(peaks[:, None], len(LEVELS), axis=1), np.ones(len(peaks), dtype=bool)
    )


def played(bench: PolicyInputs, policy: Policy, target: float) -> tuple[ServiceOutcome, Ints]:
    counts = policy(bench, target)
    return outcome(bench.world, counts, serving(counts, bench.world.start_steps)), counts


@given(loads, starts, st.sampled_from([0.1, 10.0]), st.floats(0.5, 0.9))
@settings(max_examples=25, deadline=None)
def test_wrong_by_ten_either_way(
    trace: RateTrace, start: int, factor: float, target: float
) -> None:
    bench = PolicyInputs(scenario_of(trace, start))
    object.__setattr__(bench, "foresight", forecast(bench, factor))
    ours, _ = played(bench, policies.ours, target)
    alone, _ = played(bench, policies.ours_no_forecast, target)
    plain, _ = played(bench, policies.hpa, target)
    assert ours.overload <= alone.overload
    assert ours.overload <= 1.1 * plain.overload
    assert ours.paid <= 2 * plain.paid


@given(loads, starts, st.floats(0.5, 0.9))
@settings(max_examples=25, deadline=None)
def test_dead(trace: RateTrace, start: int, target: float) -> None:
    bench = PolicyInputs(scenario_of(trace, start))
    steps = len(bench.reading)
    silent = ReplayedForecast(np.full((steps, len(LEVELS)), np.nan), np.zeros(steps, dtype=bool))
    object.__setattr__(bench, "foresight", silent)
    ours, counts = played(bench, policies.ours, target)
    plain, _ = played(bench, policies.hpa, target)
    assert counts.tolist() == policies.ours_no_forecast(bench, target).tolist()
    assert ours.overload <= 1.1 * plain.overload
    assert ours.paid <= 2 * plain.paid


@given(loads, starts, st.floats(0.4, 1.2))
@settings(max_examples=25, deadline=None)
def test_the_policy_alone_never_runs_fewer_replicas_than_an_hpa(
    trace: RateTrace, start: int, target: float
) -> None:
    """The overload is bounded at every step, not only in sum."""
    bench = PolicyInputs(scenario_of(trace, start))
    alone, plain = policies.ours_no_forecast(bench, target), policies.hpa(bench, target)
    assert (alone >= plain).all()


@given(loads, starts, st.integers(0, 2**32 - 1), st.floats(0.4, 1.2))
@settings(max_examples=25, deadline=None)
def test_no_forecast_makes_the_policy_unsafe(
    trace: RateTrace, start: int, seed: int, target: float
) -> None:
    """At one target it overloads no more than the HPA, whatever the forecast is."""
    bench = PolicyInputs(scenario_of(trace, start))
    drawn = np.random.default_rng(seed)
    factors = np.repeat(drawn.choice([0.1, 0.9, 1.0, 1.3, 10.0], len(bench.reading) // 9 + 1), 9)
    object.__setattr__(bench, "foresight", forecast(bench, factors[: len(bench.reading)]))
    counts = policies.ours(bench, target)
    worth = bench.reading / (bench.world.capacity * target)
    plain = vectorized.plain_autoscaler(worth, bench.most, bench.least, int(counts[0]))
    assert (counts >= plain).all()
    same_start = serving(plain, bench.world.start_steps)
    plainly = outcome(bench.world, plain, same_start)
    ours, _ = played(bench, policies.ours, target)
    assert ours.overload <= plainly.overload


def let_go_at_once(bench: PolicyInputs, target: float) -> Ints:
    """The rule without a tolerance for scale-downs."""
    needed = bench.replicas(bench.reading, target)
    return vectorized.stabilized(needed, needed, bench.most, 300.0, bench.least)


def test_without_the_tolerance_the_bound_is_broken() -> None:
    """Negative control: a load and a policy that break the bound."""
    bench = PolicyInputs(scenario_of(recorded_like(42, 0.095, 0.0018, 0.69), 300))
    old, _ = played(bench, let_go_at_once, 0.8)
    alone, _ = played(bench, policies.ours_no_forecast, 0.8)
    plain, _ = played(bench, policies.hpa, 0.8)
    assert old.overload > 1.1 * plain.overload
    assert alone.overload <= plain.overload


@given(loads, starts, st.integers(0, 2**32 - 1), st.floats(0.4, 1.2))
@settings(max_examples=15, deadline=None)
def test_no_forecast_ever_leaves_less_than_demand_at_hand_needs(
    trace: RateTrace, start: int, seed: int, target: float
) -> None:
    bench = PolicyInputs(scenario_of(trace, start))
    steps = len(bench.reading)
    factors = np.random.default_rng(seed).choice([0.0, 0.1, 0.5, 1.0, 2.0, 10.0], steps)
    object.__setattr__(bench, "foresight", forecast(bench, factors))
    counts = policies.ours(bench, target)
    now = np.minimum(bench.replicas(bench.reading, target), bench.most)
    reach = np.maximum(2 * counts[:-1], counts[:-1] + 4)
    assert (counts[1:] >= np.minimum(now[1:], reach)).all()


@pytest.mark.parametrize("start", [60, 300])
def test_a_correct_forecast_reduces_overload(start: int) -> None:
    """Control: an unscaled forecast lowers the overload well below the HPA's."""
    bench = PolicyInputs(scenario_of(recorded_like(1, 0.05, 0.002, 0.6), start))
    object.__setattr__(bench, "foresight", forecast(bench, 1.0))
    ours, _ = played(bench, policies.ours, 0.85)
    plain, _ = played(bench, policies.hpa, 0.85)
    assert ours.overload < 0.5 * plain.overload

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

from r1_evaluation.policies import peers, production, vectorized
from r1_evaluation.policies.forecast_replay import LEVELS, ReplayedForecast, lead_minutes
from r1_evaluation.policies.inputs import Policy, PolicyInputs
from r1_evaluation.simulator.fluid import ServiceOutcome, service_outcome, serving_counts
from r1_evaluation.traces.load import RateTrace
from r1_evaluation.traces.scenario import MINUTE_STEPS, Floats, Ints, scenario_of

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


def forecast(inputs: PolicyInputs, factor: Floats | float) -> ReplayedForecast:
    """What happens over the lead, times a factor, said by the minute, and always acting."""
    scenario = inputs.scenario
    minute = np.arange(scenario.begin, len(scenario.demand)) // MINUTE_STEPS * MINUTE_STEPS
    ahead = lead_minutes(scenario.start_seconds) * MINUTE_STEPS
    padded = np.concatenate([scenario.demand, np.full(ahead, scenario.demand[-1])])
    peaks = np.lib.stride_tricks.sliding_window_view(padded, ahead).max(axis=1)[minute] * factor
    return ReplayedForecast(
        np.repeat(peaks[:, None], len(LEVELS), axis=1), np.ones(len(peaks), dtype=bool)
    )


def scored_run(inputs: PolicyInputs, policy: Policy, target: float) -> tuple[ServiceOutcome, Ints]:
    counts = policy(inputs, target)
    return service_outcome(
        inputs.scenario, counts, serving_counts(counts, inputs.scenario.start_steps)
    ), counts


@given(loads, starts, st.sampled_from([0.1, 10.0]), st.floats(0.5, 0.9))
@settings(max_examples=25, deadline=None)
def test_forecasts_wrong_by_ten_bound_overload_and_cost(
    trace: RateTrace, start: int, factor: float, target: float
) -> None:
    inputs = PolicyInputs(scenario_of(trace, start))
    object.__setattr__(inputs, "replayed_forecast", forecast(inputs, factor))
    ours, _ = scored_run(inputs, production.ours, target)
    alone, _ = scored_run(inputs, production.ours_no_forecast, target)
    plain, _ = scored_run(inputs, peers.hpa, target)
    assert ours.overload <= alone.overload
    assert ours.overload <= 1.1 * plain.overload
    assert ours.paid <= 2 * plain.paid


@given(loads, starts, st.floats(0.5, 0.9))
@settings(max_examples=25, deadline=None)
def test_a_missing_forecast_bounds_overload_and_cost(
    trace: RateTrace, start: int, target: float
) -> None:
    inputs = PolicyInputs(scenario_of(trace, start))
    steps = len(inputs.reading)
    silent = ReplayedForecast(np.full((steps, len(LEVELS)), np.nan), np.zeros(steps, dtype=bool))
    object.__setattr__(inputs, "replayed_forecast", silent)
    ours, counts = scored_run(inputs, production.ours, target)
    plain, _ = scored_run(inputs, peers.hpa, target)
    assert counts.tolist() == production.ours_no_forecast(inputs, target).tolist()
    assert ours.overload <= 1.1 * plain.overload
    assert ours.paid <= 2 * plain.paid


@given(loads, starts, st.floats(0.4, 1.2))
@settings(max_examples=25, deadline=None)
def test_ours_without_a_forecast_never_runs_fewer_replicas_than_an_hpa(
    trace: RateTrace, start: int, target: float
) -> None:
    """Why the overload is bounded: at every step, not only in sum."""
    inputs = PolicyInputs(scenario_of(trace, start))
    alone, plain = production.ours_no_forecast(inputs, target), peers.hpa(inputs, target)
    assert (alone >= plain).all()


@given(loads, starts, st.integers(0, 2**32 - 1), st.floats(0.4, 1.2))
@settings(max_examples=25, deadline=None)
def test_ours_with_any_forecast_never_runs_fewer_replicas_than_an_hpa(
    trace: RateTrace, start: int, seed: int, target: float
) -> None:
    """So at one target it overloads no more than that autoscaler, whatever the forecast says."""
    inputs = PolicyInputs(scenario_of(trace, start))
    drawn = np.random.default_rng(seed)
    factors = np.repeat(drawn.choice([0.1, 0.9, 1.0, 1.3, 10.0], len(inputs.reading) // 9 + 1), 9)
    object.__setattr__(
        inputs, "replayed_forecast", forecast(inputs, factors[: len(inputs.reading)])
    )
    counts = production.ours(inputs, target)
    demand_in_replicas = inputs.reading / (inputs.scenario.capacity * target)
    plain = vectorized.hpa_counts(
        demand_in_replicas, inputs.max_replicas, inputs.min_replicas, int(counts[0])
    )
    assert (counts >= plain).all()
    same_start = serving_counts(plain, inputs.scenario.start_steps)
    plainly = service_outcome(inputs.scenario, plain, same_start)
    ours, _ = scored_run(inputs, production.ours, target)
    assert ours.overload <= plainly.overload


def let_go_at_once(inputs: PolicyInputs, target: float) -> Ints:
    """The rule of before, without a tolerance on the way down."""
    needed = inputs.replicas(inputs.reading, target)
    return vectorized.stabilized_counts(
        needed, needed, inputs.max_replicas, 300.0, inputs.min_replicas
    )


def test_without_the_tolerance_the_bound_is_broken() -> None:
    """The check can fail: the load and the policy that it was missed on."""
    inputs = PolicyInputs(scenario_of(recorded_like(42, 0.095, 0.0018, 0.69), 300))
    old, _ = scored_run(inputs, let_go_at_once, 0.8)
    alone, _ = scored_run(inputs, production.ours_no_forecast, 0.8)
    plain, _ = scored_run(inputs, peers.hpa, 0.8)
    assert old.overload > 1.1 * plain.overload
    assert alone.overload <= plain.overload


@given(loads, starts, st.integers(0, 2**32 - 1), st.floats(0.4, 1.2))
@settings(max_examples=15, deadline=None)
def test_no_forecast_goes_below_the_current_need(
    trace: RateTrace, start: int, seed: int, target: float
) -> None:
    inputs = PolicyInputs(scenario_of(trace, start))
    steps = len(inputs.reading)
    factors = np.random.default_rng(seed).choice([0.0, 0.1, 0.5, 1.0, 2.0, 10.0], steps)
    object.__setattr__(inputs, "replayed_forecast", forecast(inputs, factors))
    counts = production.ours(inputs, target)
    now = np.minimum(inputs.replicas(inputs.reading, target), inputs.max_replicas)
    reach = np.maximum(2 * counts[:-1], counts[:-1] + 4)
    assert (counts[1:] >= np.minimum(now[1:], reach)).all()


@pytest.mark.parametrize("start", [60, 300])
def test_a_correct_forecast_halves_the_overload(start: int) -> None:
    """The check can fail: with the same words, unscaled, overload falls well below HPA's."""
    inputs = PolicyInputs(scenario_of(recorded_like(1, 0.05, 0.002, 0.6), start))
    object.__setattr__(inputs, "replayed_forecast", forecast(inputs, 1.0))
    ours, _ = scored_run(inputs, production.ours, 0.85)
    plain, _ = scored_run(inputs, peers.hpa, 0.85)
    assert ours.overload < 0.5 * plain.overload

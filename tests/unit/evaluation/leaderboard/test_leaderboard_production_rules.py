"""Whole courses are the production rules: played side by side, they agree at every step."""

import math
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1_evaluation.policies import production, vectorized
from r1_evaluation.policies.forecast_replay import LEVELS, ReplayedForecast
from r1_evaluation.policies.inputs import PolicyInputs
from r1_evaluation.traces.load import RateTrace
from r1_evaluation.traces.scenario import STEP_SECONDS, Floats, Ints, scenario_of
from r1_operator.api.scaling import Activation, DownPolicy
from r1_operator.plan.scaling import hpa_simulation
from r1_operator.plan.scaling.decide import decide
from r1_operator.plan.scaling.forecast_rules import forecast_budget
from r1_operator.plan.scaling.inputs import ScalingInputs
from r1_operator.plan.scaling.limits.rate_limits import TimedCount
from r1_operator.plan.scaling.policy import DownBehavior, ForecastPolicy
from r1_operator.plan.scaling.scaling_state import ScalingState
from r1_operator.plan.signals.demand import Demand
from r1_operator.plan.signals.forecast import ForecastGate, ReceivedForecast

START = 1_700_000_000.0
loads = st.builds(
    lambda seed, minutes, noise, low: _load(seed, minutes, noise, low),
    st.integers(0, 2**32 - 1),
    st.integers(60, 150),
    st.floats(0.0, 1.0),
    st.floats(0.0, 2.0),
)


def _load(seed: int, minutes: int, noise: float, low: float) -> RateTrace:
    """A wandering load with bursts, in requests per minute."""
    drawn = np.random.default_rng(seed)
    level = 60 * np.exp(np.cumsum(drawn.normal(0, 0.15, minutes)))
    burst = np.where(drawn.random(minutes) < 0.03, drawn.uniform(1, 6, minutes), 1.0)
    rates = low + level * burst * np.exp(drawn.normal(0, noise, minutes))
    return RateTrace("drawn", 60.0, tuple(rates.tolist()))


def replayed_forecast(inputs: PolicyInputs, seed: int, share: float) -> ReplayedForecast:
    """A forecast that is right, silent or wrong by any factor, in stretches."""
    drawn = np.random.default_rng(seed)
    steps = len(inputs.reading)
    factor = np.repeat(drawn.choice([0.1, 0.9, 1.1, 1.5, 10.0], steps // 20 + 1), 20)[:steps]
    peak = inputs.reading * factor
    acts = np.repeat(drawn.random(steps // 8 + 1) < share, 8)[:steps]
    return ReplayedForecast(np.repeat(peak[:, None], len(LEVELS), axis=1), acts)


def decided(
    inputs: PolicyInputs, target: float, replayed: ReplayedForecast | None, down: DownBehavior
) -> Ints:
    """The same by `decide`, step by step, with all that it remembers."""
    scenario = inputs.scenario
    policy = inputs.policy(target)
    forecast_use = ForecastPolicy(Activation.REQUIRE_BACKTEST)
    policy = type(policy)(
        policy.min_replicas,
        policy.max_replicas,
        policy.metrics,
        target_utilization=target,
        down=down,
        forecast=forecast_use,
    )
    first = vectorized.round_up_replicas(inputs.reading[:1] / (scenario.capacity * target))
    if replayed is not None and replayed.acts[0]:
        peak = replayed.at(policy.peak_quantile(inputs.lead_seconds))[:1]
        first = np.maximum(
            first,
            vectorized.round_up_replicas(peak / (scenario.capacity * policy.peak_utilization)),
        )
    current = min(max(int(first[0]), 1), inputs.max_replicas)
    # Watched for a whole window already: what a fresh start holds back is tested elsewhere.
    history = ScalingState(
        started_at=START - 3600, highest_recommendations=(TimedCount(START - 3600, 0),)
    )
    replica_counts = []
    for step, rate in enumerate(inputs.reading.tolist()):
        now = START + step * STEP_SECONDS
        forecast = None if replayed is None else _forecast(inputs, replayed, step, now)
        observed = ScalingInputs(current, current, Demand(rate, 0.0, 0.0, 0.0, 0.0), forecast)
        decision, history = decide(policy, observed, history, now)
        current = decision.replicas
        replica_counts.append(current)
    return np.array(replica_counts, dtype=np.int64)


def _forecast(
    inputs: PolicyInputs, replayed: ReplayedForecast, step: int, now: float
) -> ReceivedForecast:
    quantiles = dict(zip(LEVELS, replayed.peaks[step].tolist(), strict=True))
    lead = inputs.scenario.start_seconds + STEP_SECONDS
    acts = bool(replayed.acts[step])
    gate = ForecastGate(acts, "Reason", "Message.")
    return ReceivedForecast("model", now, now + 60, lead, quantiles, (), gate)


@given(
    loads,
    st.integers(0, 1000),
    st.floats(0.2, 1.2),
    st.sampled_from([15, 60, 300]),
    st.sampled_from([120.0, 1800.0, forecast_budget.MAX_BALANCE_SECONDS]),
)
@settings(max_examples=40, deadline=None)
def test_ours_equals_decide_at_every_step(
    trace: RateTrace, seed: int, target: float, start: int, saved_seconds: float
) -> None:
    inputs = PolicyInputs(scenario_of(trace, start))
    replayed = replayed_forecast(inputs, seed, share=0.7)
    object.__setattr__(inputs, "replayed_forecast", replayed)
    # With little to save up a forecast that asks for much pauses and comes back several times.
    with mock.patch.object(forecast_budget, "MAX_BALANCE_SECONDS", saved_seconds):
        lean = production.ours(inputs, target)
        assert lean.tolist() == decided(inputs, target, replayed, DownBehavior()).tolist()


@given(loads, st.floats(0.2, 1.2))
@settings(max_examples=15, deadline=None)
def test_ours_without_a_forecast_equals_decide_at_every_step(
    trace: RateTrace, target: float
) -> None:
    inputs = PolicyInputs(scenario_of(trace, 60))
    lean = production.ours_no_forecast(inputs, target)
    assert lean.tolist() == decided(inputs, target, None, DownBehavior()).tolist()


@given(loads, st.floats(0.2, 1.2))
@settings(max_examples=15, deadline=None)
def test_the_threshold_policy_equals_decide_at_every_step(trace: RateTrace, target: float) -> None:
    inputs = PolicyInputs(scenario_of(trace, 60))
    lean = production.threshold(inputs, target)
    by_threshold = DownBehavior(DownPolicy.THRESHOLD)
    assert lean.tolist() == decided(inputs, target, None, by_threshold).tolist()


@given(loads, st.floats(0.2, 1.2), st.booleans())
@settings(max_examples=40, deadline=None)
def test_hpa_counts_equal_the_stepwise_simulation(
    trace: RateTrace, target: float, has_behavior: bool
) -> None:
    inputs = PolicyInputs(scenario_of(trace, 60))
    demand_in_replicas: Floats = inputs.reading / (inputs.scenario.capacity * target)
    first = min(max(math.ceil(demand_in_replicas[0] - 1e-9), 1), inputs.max_replicas)
    state = hpa_simulation.HpaState(first)
    replica_counts = []
    for step, value in enumerate(demand_in_replicas.tolist()):
        now = START + step * STEP_SECONDS
        state = hpa_simulation.simulate_sync(
            state,
            value,
            1.0,
            1,
            inputs.max_replicas,
            now,
            hpa_simulation.HpaRules(has_behavior=has_behavior),
        )
        replica_counts.append(state.replicas)
    assert (
        vectorized.hpa_counts(
            demand_in_replicas, inputs.max_replicas, has_behavior=has_behavior
        ).tolist()
        == replica_counts
    )


def test_an_excessive_forecast_is_accepted_for_a_limited_time() -> None:
    needed = np.full(12, 2, dtype=np.int64)
    foreseen = np.array([2, 9, 9, 9, 9, 9, 4, 9, 9, 9, 9, 0])
    believed = vectorized.accepted_forecast(foreseen, needed, tolerated_seconds=30)
    assert believed.tolist() == [True] * 4 + [False] * 2 + [True] * 4 + [False] * 2


@pytest.mark.parametrize(("count", "reached"), [(1, 5), (4, 8), (5, 10), (20, 40)])
def test_a_step_doubles_the_count_or_adds_four(count: int, reached: int) -> None:
    needed = np.array([count, 60], dtype=np.int64)
    assert vectorized.stabilized_counts(needed, needed, 60, 300).tolist() == [count, reached]

"""Whole courses are the production rules: played side by side, they agree at every step."""

import math
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1_evaluation.leaderboard import policies, vectorized
from r1_evaluation.leaderboard.forecast_replay import LEVELS, ReplayedForecast
from r1_evaluation.leaderboard.policies import PolicyInputs
from r1_evaluation.leaderboard.scenario import STEP_SECONDS, Floats, Ints, scenario_of
from r1_evaluation.traces.load import RateTrace
from r1_operator.api.scaling import Activation, DownPolicy
from r1_operator.plan.scaling import forecast_budget, hpa_simulation
from r1_operator.plan.scaling.decide import decide
from r1_operator.plan.scaling.inputs import ScalingInputs
from r1_operator.plan.scaling.policy import DownBehavior, ForecastPolicy
from r1_operator.plan.scaling.rate_limits import TimedCount
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


def told(bench: PolicyInputs, seed: int, share: float) -> ReplayedForecast:
    """A forecast that is right, silent or wrong by any factor, in stretches."""
    drawn = np.random.default_rng(seed)
    steps = len(bench.reading)
    factor = np.repeat(drawn.choice([0.1, 0.9, 1.1, 1.5, 10.0], steps // 20 + 1), 20)[:steps]
    peak = bench.reading * factor
    acts = np.repeat(drawn.random(steps // 8 + 1) < share, 8)[:steps]
    return ReplayedForecast(np.repeat(peak[:, None], len(LEVELS), axis=1), acts)


def decided(
    bench: PolicyInputs, target: float, said: ReplayedForecast | None, down: DownBehavior
) -> Ints:
    """The same by `decide`, step by step, with all that it remembers."""
    world = bench.world
    policy = bench.policy(target)
    forecast_use = ForecastPolicy(Activation.REQUIRE_BACKTEST)
    policy = type(policy)(
        policy.min_replicas,
        policy.max_replicas,
        policy.metrics,
        target_utilization=target,
        down=down,
        forecast=forecast_use,
    )
    first = vectorized.whole(bench.reading[:1] / (world.capacity * target))
    if said is not None and said.acts[0]:
        peak = said.at(policy.peak_quantile(bench.lead_seconds))[:1]
        first = np.maximum(
            first, vectorized.whole(peak / (world.capacity * policy.peak_utilization))
        )
    current = min(max(int(first[0]), 1), bench.most)
    # Watched for a whole window already: what a fresh start holds back is tested elsewhere.
    history = ScalingState(
        started_at=START - 3600, highest_recommendations=(TimedCount(START - 3600, 0),)
    )
    course = []
    for step, rate in enumerate(bench.reading.tolist()):
        now = START + step * STEP_SECONDS
        forecast = None if said is None else _forecast(bench, said, step, now)
        inputs = ScalingInputs(current, current, Demand(rate, 0.0, 0.0, 0.0, 0.0), forecast)
        decision, history = decide(policy, inputs, history, now)
        current = decision.replicas
        course.append(current)
    return np.array(course, dtype=np.int64)


def _forecast(
    bench: PolicyInputs, said: ReplayedForecast, step: int, now: float
) -> ReceivedForecast:
    quantiles = dict(zip(LEVELS, said.peaks[step].tolist(), strict=True))
    lead = bench.world.start_seconds + STEP_SECONDS
    acts = bool(said.acts[step])
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
def test_ours_is_what_decide_decides(
    trace: RateTrace, seed: int, target: float, start: int, saved_seconds: float
) -> None:
    bench = PolicyInputs(scenario_of(trace, start))
    said = told(bench, seed, share=0.7)
    object.__setattr__(bench, "foresight", said)
    # With little to save up a forecast that asks for much pauses and comes back several times.
    with mock.patch.object(forecast_budget, "MAX_BALANCE_SECONDS", saved_seconds):
        lean = policies.ours(bench, target)
        assert lean.tolist() == decided(bench, target, said, DownBehavior()).tolist()


@given(loads, st.floats(0.2, 1.2))
@settings(max_examples=15, deadline=None)
def test_ours_without_a_forecast_is_what_decide_decides(trace: RateTrace, target: float) -> None:
    bench = PolicyInputs(scenario_of(trace, 60))
    lean = policies.ours_no_forecast(bench, target)
    assert lean.tolist() == decided(bench, target, None, DownBehavior()).tolist()


@given(loads, st.floats(0.2, 1.2))
@settings(max_examples=15, deadline=None)
def test_the_threshold_is_what_decide_decides(trace: RateTrace, target: float) -> None:
    bench = PolicyInputs(scenario_of(trace, 60))
    lean = policies.threshold(bench, target)
    by_threshold = DownBehavior(DownPolicy.THRESHOLD)
    assert lean.tolist() == decided(bench, target, None, by_threshold).tolist()


@given(loads, st.floats(0.2, 1.2), st.booleans())
@settings(max_examples=40, deadline=None)
def test_the_plain_autoscaler_is_its_stepwise_twin(
    trace: RateTrace, target: float, stanza: bool
) -> None:
    bench = PolicyInputs(scenario_of(trace, 60))
    worth: Floats = bench.reading / (bench.world.capacity * target)
    first = min(max(math.ceil(worth[0] - 1e-9), 1), bench.most)
    state = hpa_simulation.HpaState(first)
    course = []
    for step, value in enumerate(worth.tolist()):
        now = START + step * STEP_SECONDS
        state = hpa_simulation.simulate_sync(
            state, value, 1.0, 1, bench.most, now, hpa_simulation.HpaRules(has_behavior=stanza)
        )
        course.append(state.replicas)
    assert vectorized.plain_autoscaler(worth, bench.most, stanza=stanza).tolist() == course


def test_a_promise_is_believed_for_its_patience_and_again_once_it_asks_for_less() -> None:
    needed = np.full(12, 2, dtype=np.int64)
    foreseen = np.array([2, 9, 9, 9, 9, 9, 4, 9, 9, 9, 9, 0])
    believed = vectorized.believed(foreseen, needed, patience_seconds=30)
    assert believed.tolist() == [True] * 4 + [False] * 2 + [True] * 4 + [False] * 2


@pytest.mark.parametrize(("count", "reached"), [(1, 5), (4, 8), (5, 10), (20, 40)])
def test_a_step_doubles_or_adds_four(count: int, reached: int) -> None:
    needed = np.array([count, 60], dtype=np.int64)
    assert vectorized.stabilized(needed, needed, 60, 300).tolist() == [count, reached]

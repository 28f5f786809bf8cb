"""Whatever the load: a policy's course is a count at every step, within its bounds, of the past."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1_evaluation.policies.forecast_replay import LEVELS, ReplayedForecast
from r1_evaluation.policies.inputs import PolicyInputs
from r1_evaluation.policies.registry import POLICIES
from r1_evaluation.traces.load import RateTrace
from r1_evaluation.traces.scenario import MINUTE_STEPS, Floats, scenario_of

SEES_ALL = {"oracle", "static"}
# A policy whose predictions come out of its owner's package is played where that is at hand.
NEEDS_ITS_OWNER = {
    f"dynamo-{planner}{predictor}"
    for planner in ("", "hybrid-")
    for predictor in ("arima", "prophet")
}
HERE = [name for name in POLICIES if name not in NEEDS_ITS_OWNER]


def bench_of(values: Floats, max_replicas: int = 30, min_replicas: int = 1) -> PolicyInputs:
    """A bench with a silent forecaster."""
    inputs = PolicyInputs(
        scenario_of(RateTrace("any", 60.0, tuple(values.tolist())), 60), max_replicas, min_replicas
    )
    steps = len(inputs.reading)
    silent = ReplayedForecast(np.full((steps, len(LEVELS)), np.nan), np.zeros(steps, dtype=bool))
    object.__setattr__(inputs, "replayed_forecast", silent)
    return inputs


@st.composite
def any_load(draw: st.DrawFn) -> Floats:
    """Calm and silent stretches, steps and single bursts, requests per minute."""
    drawn = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    minutes = draw(st.integers(40, 160))
    level = np.repeat(drawn.choice([0.0, 0.5, 60.0, 900.0], minutes // 12 + 1), 12)[:minutes]
    burst = np.where(drawn.random(minutes) < 0.05, drawn.uniform(1, 40, minutes), 1.0)
    values: Floats = level * burst
    values[-5] = max(values[-5], 30.0)  # something is offered in the part that is scored
    return values


@pytest.mark.parametrize("name", HERE)
@given(any_load(), st.floats(0.3, 1.2), st.integers(1, 4))
@settings(max_examples=12, deadline=None)
def test_counts_stay_within_the_bounds(
    name: str, values: Floats, target: float, min_replicas: int
) -> None:
    inputs = bench_of(values, min_replicas=min_replicas)
    replica_counts = POLICIES[name](inputs, target)
    assert replica_counts.dtype == np.int64
    assert len(replica_counts) == len(inputs.reading)
    assert replica_counts.min() >= min_replicas
    assert replica_counts.max() <= inputs.max_replicas


@pytest.mark.parametrize("name", [name for name in HERE if name not in SEES_ALL])
@given(any_load(), st.floats(0.3, 1.2))
@settings(max_examples=8, deadline=None)
def test_later_demand_changes_no_earlier_count(name: str, values: Floats, target: float) -> None:
    inputs = bench_of(values)
    tuned_on_first_half = POLICIES[name](inputs, target)
    changed = values.copy()
    # Lower, and not the highest minute of the test: that one sets what a replica carries.
    last = len(values) - 8
    tested = inputs.scenario.test_from // MINUTE_STEPS
    highest = int(np.argmax(values[tested:])) + tested
    changed[last:] = np.where(np.arange(last, len(values)) == highest, values[last:], 0.0)
    after = POLICIES[name](bench_of(changed), target)
    # Demand is linear between the middles of minutes, so the minute before is touched too.
    same = len(tuned_on_first_half) - MINUTE_STEPS * (8 + 1)
    assert tuned_on_first_half[:same].tolist() == after[:same].tolist()

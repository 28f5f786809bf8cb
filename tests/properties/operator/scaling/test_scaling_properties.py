"""Invariants of decisions: bounds, rate limits, missing data, monotonicity in demand."""

import math
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from r1_common.contracts.unavailable import Unavailable
from r1_operator.api.scaling import Activation, ClassName, DownPolicy, MetricType, PolicyType
from r1_operator.plan.scaling.decide import ScalingState, decide
from r1_operator.plan.scaling.inputs import ScalingInputs
from r1_operator.plan.scaling.policy import (
    Ceiling,
    DownBehavior,
    ForecastPolicy,
    MetricTarget,
    RateLimit,
    ScalingPolicy,
    UpBehavior,
)
from r1_operator.plan.scaling.reasons import DecisionReason
from r1_operator.plan.signals.counter_sample import CounterSample
from r1_operator.plan.signals.counter_store import CounterStore
from r1_operator.plan.signals.demand import Demand
from r1_operator.plan.signals.forecast import ForecastGate, ReceivedForecast, ReceivedForecastPoint
from r1_operator.plan.signals.latencies import Latencies, Recent
from r1_operator.plan.signals.latency_histograms import LatencyHistogram

GONE = Unavailable("StaleSignals", "Gone.")
START = 1_700_000_000.0

sane = st.floats(0, 1e4, allow_nan=False)
wild = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([math.nan, math.inf, -math.inf, -1.0, 0.0, 1e308, 5e-324]),
)
limits = st.lists(
    st.builds(
        RateLimit, st.sampled_from(list(PolicyType)), st.integers(1, 300), st.integers(1, 120)
    ),
    min_size=1,
    max_size=3,
).map(tuple)


@st.composite
def policies(draw: st.DrawFn) -> ScalingPolicy:
    low = draw(st.integers(0, 20))
    kinds = draw(st.lists(st.sampled_from(list(MetricType)), min_size=1, max_size=4, unique=True))
    return ScalingPolicy(
        min_replicas=low,
        max_replicas=draw(st.integers(max(1, low), 60)),
        metrics=tuple(
            MetricTarget(kind, draw(st.floats(0.1, 1e3)), step=draw(st.sampled_from([None, 1.5])))
            for kind in kinds
        ),
        target_utilization=draw(st.floats(0.05, 1.0)),
        up=UpBehavior(draw(st.sampled_from([0.0, 30.0])), draw(limits)),
        down=DownBehavior(
            draw(st.sampled_from(list(DownPolicy))),
            draw(st.sampled_from([0.0, 10.0, 300.0])),
            draw(st.floats(1, 99)),
            draw(limits),
        ),
        forecast=ForecastPolicy(draw(st.sampled_from(list(Activation)))),
        ceilings=tuple(
            Ceiling(most, DecisionReason.AT_GPU_BUDGET, f"the budget allows {most}")
            for most in draw(st.lists(st.integers(0, 80), max_size=3))
        ),
    )


def most(policy: ScalingPolicy) -> int:
    """Reference rule: the tightest bound, with the minimum before any budget."""
    allowed = min([policy.max_replicas, *(ceiling.replicas for ceiling in policy.ceilings)])
    return max(allowed, policy.min_replicas)


def demands(figures: st.SearchStrategy[float]) -> st.SearchStrategy[Demand]:
    maybe = st.one_of(figures, st.just(GONE))
    return st.builds(
        Demand,
        requests_per_second=maybe,
        tokens_per_second=maybe,
        in_flight=figures,
        queued=figures,
        oldest_wait_seconds=figures,
        completed_per_replica=maybe,
        buffered=figures,
        missing=st.sampled_from([(), ("gw-1",)]),
    )


def latencies(figures: st.SearchStrategy[float]) -> st.SearchStrategy[Latencies | Unavailable]:
    durations = st.builds(
        LatencyHistogram, st.just((0.5, 5.0)), st.tuples(figures, figures, figures), figures
    )
    by_class = st.dictionaries(
        st.sampled_from(list(ClassName)), st.builds(Recent, durations, st.just(30.0)), max_size=3
    )
    waits = st.dictionaries(st.sampled_from(list(ClassName)), figures, max_size=3)
    return st.one_of(st.just(GONE), st.builds(Latencies, by_class, by_class, waits))


def externals(
    figures: st.SearchStrategy[float],
) -> st.SearchStrategy[dict[str, float | Unavailable]]:
    return st.dictionaries(st.just("External"), st.one_of(figures, st.just(GONE)), max_size=1)


def forecasts(
    figures: st.SearchStrategy[float],
) -> st.SearchStrategy[ReceivedForecast | Unavailable | None]:
    quantiles = st.dictionaries(st.sampled_from([0.5, 0.9, 0.95]), figures, max_size=3)
    return st.one_of(
        st.none(),
        st.just(GONE),
        st.builds(
            ReceivedForecast,
            model=st.just("lstm"),
            issued_at=st.just(START),
            valid_until=st.sampled_from([START - 1, START + 1e6]),
            lead_seconds=st.floats(1, 600),
            peak_over_lead=quantiles,
            points=st.lists(
                st.builds(ReceivedForecastPoint, st.floats(START - 10, START + 900), quantiles),
                max_size=4,
            ).map(tuple),
            gate=st.builds(ForecastGate, st.booleans(), st.just("Reason"), st.just("Message.")),
        ),
    )


stories = st.lists(
    st.tuples(
        st.one_of(st.just(GONE), demands(sane)),
        forecasts(sane),
        latencies(sane),
        externals(sane),
        st.floats(0.1, 60),
    ),
    min_size=1,
    max_size=25,
)


@given(policies(), st.integers(0, 80), stories)
def test_bounds_and_pace_hold_through_any_story(
    policy: ScalingPolicy,
    replicas: int,
    story: list[
        tuple[
            Demand | Unavailable,
            ReceivedForecast | Unavailable | None,
            Latencies | Unavailable,
            dict[str, float | Unavailable],
            float,
        ]
    ],
) -> None:
    now, history = START, ScalingState()
    trail: list[tuple[float, int]] = []
    for demand, forecast, latencies_read, values, pause in story:
        inputs = ScalingInputs(
            replicas, replicas, demand, forecast, latencies=latencies_read, external=values
        )
        decision, history = decide(policy, inputs, history, now)
        assert policy.min_replicas <= decision.replicas <= most(policy)
        assert decision.message
        if policy.min_replicas <= replicas <= most(policy):
            assert _within_pace(policy, trail, replicas, decision.replicas, now)
        trail.append((now, decision.replicas - replicas))
        replicas, now = decision.replicas, now + pause


def _within_pace(
    policy: ScalingPolicy, trail: list[tuple[float, int]], before: int, after: int, now: float
) -> bool:
    """Reference rule: a limit's period began with a count that allows this one."""
    if after == before or (before == 0 and after == 1):
        return True
    rates = policy.up.limits if after > before else policy.down.limits
    for rate in rates:
        start = max(0, before - sum(by for at, by in trail if now - at < rate.period_seconds))
        change = rate.value if rate.type is PolicyType.PODS else start * rate.value / 100
        if after > before and after <= math.ceil(start + change):
            return True
        if after < before and after >= math.floor(start - change):
            return True
    return False


@given(
    policies(),
    st.integers(0, 80),
    demands(wild),
    forecasts(wild),
    latencies(wild),
    externals(wild),
    st.floats(0, 1e5),
)
@settings(max_examples=300)
def test_invalid_inputs_neither_crash_nor_scale_down(
    policy: ScalingPolicy,
    replicas: int,
    demand: Demand,
    forecast: ReceivedForecast | Unavailable | None,
    latencies_read: Latencies | Unavailable,
    values: dict[str, float | Unavailable],
    after: float,
) -> None:
    """Every metric of the policy is broken in some way: the count may not fall."""
    broken = replace(
        demand,
        requests_per_second=math.nan,
        tokens_per_second=GONE,
        in_flight=-1.0,
        queued=math.nan,
    )
    history = ScalingState().started(START - after, replicas)
    inputs = ScalingInputs(replicas, replicas, broken, forecast, latencies=GONE)
    decision, _ = decide(policy, inputs, history, START)
    assert decision.replicas >= min(replicas, most(policy))
    decision.to_json()
    wilder = replace(inputs, demand=demand, latencies=latencies_read, external=values)
    decide(policy, wilder, history, START)[0].to_json()


@given(
    policies(),
    st.integers(0, 80),
    demands(sane),
    latencies(sane),
    externals(sane),
    st.sampled_from([MetricType.MEAN_LATENCY, MetricType.TIME_TO_FIRST_TOKEN, MetricType.EXTERNAL]),
    st.floats(0, 1e5),
)
def test_a_metric_that_is_missing_beside_others_lowers_nothing(
    policy: ScalingPolicy,
    replicas: int,
    demand: Demand,
    latencies_read: Latencies | Unavailable,
    values: dict[str, float | Unavailable],
    kind: MetricType,
    after: float,
) -> None:
    others = tuple(metric for metric in policy.metrics if metric.type is not kind)
    policy = replace(policy, metrics=(*others, MetricTarget(kind, 1.0)))
    gone: dict[str, float | Unavailable] = {"External": GONE}
    inputs = ScalingInputs(
        replicas,
        replicas,
        demand,
        latencies=latencies_read if kind is MetricType.EXTERNAL else GONE,
        external=gone if kind is MetricType.EXTERNAL else values,
    )
    history = ScalingState().started(START - after, replicas)
    decision, _ = decide(policy, inputs, history, START)
    assert decision.replicas >= min(replicas, most(policy))


@given(policies(), st.integers(0, 80), st.floats(0, 1e6), st.one_of(st.just(GONE), demands(sane)))
def test_half_of_the_data_lowers_nothing(
    policy: ScalingPolicy, replicas: int, after: float, demand: Demand | Unavailable
) -> None:
    partial = demand if isinstance(demand, Unavailable) else replace(demand, missing=("gw-1",))
    history = ScalingState().started(START - after, replicas)
    decision, _ = decide(policy, ScalingInputs(replicas, replicas, partial), history, START)
    assert decision.replicas >= min(replicas, most(policy))


@given(policies(), st.integers(0, 80), demands(sane), st.floats(0, 1e3))
def test_a_restart_never_scales_down(
    policy: ScalingPolicy, replicas: int, demand: Demand, pause: float
) -> None:
    """With an empty state, until a full window has been observed."""
    start_replicas = min(max(replicas, policy.min_replicas), most(policy))
    history, now = ScalingState(), START
    window = policy.down.stabilization_window_seconds
    while now - START < window:
        decision, history = decide(
            policy, ScalingInputs(start_replicas, start_replicas, demand), history, now
        )
        assert decision.replicas >= start_replicas
        now += max(pause, 1.0)


@given(
    policies(),
    st.integers(0, 80),
    demands(sane),
    latencies(sane),
    st.tuples(sane, sane, sane, sane),
    st.floats(0, 1e6),
)
def test_more_demand_never_means_fewer_replicas(
    policy: ScalingPolicy,
    replicas: int,
    demand: Demand,
    latencies_read: Latencies | Unavailable,
    more: tuple[float, float, float, float],
    after: float,
) -> None:
    higher = replace(
        demand,
        requests_per_second=_plus(demand.requests_per_second, more[0]),
        tokens_per_second=_plus(demand.tokens_per_second, more[1]),
        in_flight=demand.in_flight + more[2],
        queued=demand.queued + more[3],
    )
    history = ScalingState().started(START - after, replicas)
    inputs = ScalingInputs(replicas, replicas, demand, latencies=latencies_read)
    one, _ = decide(policy, inputs, history, START)
    two, _ = decide(policy, replace(inputs, demand=higher), history, START)
    assert two.replicas >= one.replicas


def _plus(value: float | Unavailable, more: float) -> float | Unavailable:
    return value if isinstance(value, Unavailable) else value + more


@given(policies(), st.integers(0, 80), demands(sane), forecasts(sane), st.floats(0, 1e6))
def test_a_forecast_only_ever_raises(
    policy: ScalingPolicy,
    replicas: int,
    demand: Demand,
    forecast: ReceivedForecast | Unavailable | None,
    after: float,
) -> None:
    """A wrong forecast never lowers the count of real-time demand."""
    history = ScalingState().started(START - after, replicas)
    alone, _ = decide(policy, ScalingInputs(replicas, replicas, demand), history, START)
    advised, _ = decide(policy, ScalingInputs(replicas, replicas, demand, forecast), history, START)
    assert advised.replicas >= alone.replicas


@given(st.lists(st.tuples(st.floats(0.01, 30), wild, st.booleans()), max_size=40))
def test_demand_of_any_counters_is_not_negative(steps: list[tuple[float, float, bool]]) -> None:
    counters, at, started = CounterStore(), 1000.0, 0.0
    for pause, figure, restarts in steps:
        at += pause
        started = at if restarts else started
        counters.observe(
            CounterSample(
                "gw-0", started, at, at, figure, figure, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 8.0, 1.0
            )
        )
    demand = counters.demand(at)
    if isinstance(demand, Demand) and not isinstance(demand.requests_per_second, Unavailable):
        assert demand.requests_per_second >= 0

"""Schedulable capacity equals placing replicas one by one, and Bindable requests no more."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from r1_common.contracts.unavailable import Unavailable
from r1_operator.api.accelerators import GPU
from r1_operator.api.scaling import MetricType
from r1_operator.plan.placement.schedulable import (
    NODES_PENDING,
    Node,
    Placement,
    PodShape,
    SchedulableCapacity,
    schedulable_replicas,
)
from r1_operator.plan.scaling.decide import decide
from r1_operator.plan.scaling.inputs import ScalingInputs
from r1_operator.plan.scaling.policy import MetricTarget, ScalingPolicy
from r1_operator.plan.scaling.scaling_state import ScalingState
from r1_operator.plan.signals.demand import Demand

NOW = 1_700_000_000.0
BLIND = Unavailable("NodesForbidden", "The operator may not list nodes.")

names = st.sampled_from([GPU, "cpu", "memory"])
amounts = st.fractions(0, 6, max_denominator=4)
free = st.dictionaries(names, st.fractions(-2, 9, max_denominator=4))
nodes = st.lists(
    st.builds(
        lambda free, pods, ready: Node("n", {**free, "pods": Fraction(pods)}, ready),
        free,
        st.integers(-1, 6),
        st.booleans(),
    ),
    max_size=6,
)


@given(st.dictionaries(names, amounts), nodes)
def test_schedulable_replicas_match_placing_them_one_by_one(
    requests: dict[str, Fraction], cluster: list[Node]
) -> None:
    room = schedulable_replicas(PodShape(requests), cluster)
    placed = [_placed(requests, dict(node.free)) if node.ready else None for node in cluster]
    counts = [count for count in placed if count is not None]
    assert room.replicas == sum(counts)
    assert room.suitable == len(counts)
    assert room.nodes == {each: counts.count(each) for each in set(counts) if each}
    assert sum(number for _, number in room.short) == counts.count(0)
    assert room.summary


def _placed(requests: dict[str, Fraction], left: dict[str, Fraction]) -> int:
    requested = {
        **{name: amount for name, amount in requests.items() if amount},
        "pods": Fraction(1),
    }
    count = 0
    while all(left.get(name, Fraction(0)) >= amount for name, amount in requested.items()):
        left = {name: amount - requested.get(name, 0) for name, amount in left.items()}
        count += 1
    return count


placements = st.builds(
    Placement,
    st.integers(0, 60),
    st.integers(0, 20),
    st.one_of(
        st.none(),
        st.just(BLIND),
        st.just(NODES_PENDING),
        st.integers(0, 40).map(
            lambda count: SchedulableCapacity(count, {count: 1} if count else {}, 1)
        ),
    ),
)


@given(
    low=st.integers(0, 10),
    current=st.integers(0, 60),
    pending=st.integers(0, 5),
    rate=st.floats(0, 500),
    placement=placements,
    waiting=st.integers(0, 2),
)
def test_bindable_limits_scale_ups_and_never_scales_down(
    low: int, current: int, pending: int, rate: float, placement: Placement, waiting: int
) -> None:
    metrics = (MetricTarget(MetricType.REQUESTS_PER_SECOND, 10.0),)
    plain = ScalingPolicy(low, 60, metrics)
    bindable = ScalingPolicy(low, 60, metrics, bindable=True, pending_replicas=pending)
    demand = Demand(rate, 0.0, float(waiting), 0.0, 0.0)
    inputs = ScalingInputs(current, current, demand, placement=placement)
    history = ScalingState().started(NOW - 3600, current)
    limited = decide(bindable, inputs, history, NOW)[0]
    free_choice = decide(plain, inputs, history, NOW)[0]
    assert limited.replicas <= free_choice.replicas
    assert limited.replicas >= min(current, free_choice.replicas)
    assert limited.replicas >= low
    if isinstance(placement.schedulable, SchedulableCapacity):
        wake = 1 if waiting and current == 0 else 0
        most = placement.placed + placement.schedulable.replicas + pending
        assert limited.replicas <= max(current, low, wake, most)

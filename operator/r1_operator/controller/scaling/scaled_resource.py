"""State of one autoscaled resource: its configuration, its signals and its last decision."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from r1_operator.api.class_policies import slo_targets
from r1_operator.api.scaling import LATENCY_TYPES, ClassName, ForecastSpec
from r1_operator.api.v1 import R1Inference, Spec
from r1_operator.kube.store import StoredObject
from r1_operator.plan.placement.node_parsing import read_shape
from r1_operator.plan.placement.schedulable import SchedulableCapacity, schedulable_replicas
from r1_operator.plan.scaling.decision import Decision
from r1_operator.plan.scaling.forecast_rules.forecast_approval import BacktestTarget, target_of
from r1_operator.plan.scaling.inputs import ScalingInputs
from r1_operator.plan.scaling.policy import Ceiling, ScalingPolicy, policy_of
from r1_operator.plan.scaling.scaling_state import ScalingState
from r1_operator.plan.scaling.seat_reservation import ClassReservation
from r1_operator.plan.signals.counter_store import CounterStore
from r1_operator.sources.lead_time import StartTimes
from r1_operator.sources.nodes import NodeSnapshot


@dataclass(frozen=True, slots=True)
class ScalingConfig:
    """The part of a spec that scaling reads, resolved once for each generation."""

    uid: str
    generation: int
    policy: ScalingPolicy
    forecast: ForecastSpec
    seats: int
    slo_targets: Mapping[ClassName, float] = field(default_factory=dict)
    """time to first token by class, in seconds"""
    backtest_target: BacktestTarget | None = None
    """the backtest that has to approve the forecast; None: none is required"""

    @property
    def has_latency_metric(self) -> bool:
        """Whether a metric of the policy is a latency."""
        return any(metric.type in LATENCY_TYPES for metric in self.policy.metrics)


def scaling_config(
    resource: R1Inference, ceilings: Callable[[Spec], tuple[Ceiling, ...]]
) -> ScalingConfig | None:
    """Return the scaling configuration; None for a resource with a fixed count."""
    autoscaling = resource.spec.autoscaling
    if autoscaling is None:
        return None
    return ScalingConfig(
        uid=resource.uid,
        generation=resource.generation,
        policy=policy_of(autoscaling, ceilings(resource.spec)),
        forecast=autoscaling.forecast,
        seats=resource.spec.runtime.max_concurrent_sequences,
        slo_targets=slo_targets(resource.class_policies),
        backtest_target=target_of(resource),
    )


@dataclass(slots=True)
class LastDecision:
    """The last decision, its inputs, and the decision in the status.

    `shown` follows a change of the count at once, and other changes at a slower pace.
    """

    target: int | None = None
    at: float = 0.0
    inputs: ScalingInputs | None = None
    seat_reservations: tuple[ClassReservation, ...] = ()
    """empty where the arrivals are unknown"""
    shown: Decision | None = None
    shown_at: float = 0.0

    def record(self, decision: Decision, inputs: ScalingInputs, now: float) -> None:
        """Store the inputs and the seat reservations of a decision."""
        self.at, self.inputs = now, inputs
        reservations = decision.seat_reservations
        self.seat_reservations = reservations if isinstance(reservations, tuple) else ()


@dataclass(slots=True)
class ScaledResource:
    """One autoscaled resource."""

    config: ScalingConfig
    counters: CounterStore = field(default_factory=CounterStore)
    scaling_state: ScalingState = field(default_factory=ScalingState)
    start_times: StartTimes = field(default_factory=StartTimes)
    last: LastDecision = field(default_factory=LastDecision)
    schedulable: tuple[NodeSnapshot, bytes, SchedulableCapacity] | None = None
    """the node snapshot, the Deployment's digest and the capacity counted from both"""

    def schedulable_in(
        self, snapshot: NodeSnapshot, deployment: StoredObject
    ) -> SchedulableCapacity:
        """Return the capacity for this Deployment's pods, counted once per node snapshot."""
        previous = self.schedulable
        if previous is None or previous[0] is not snapshot or previous[1] != deployment.digest:
            shape = read_shape(deployment.load()["spec"]["template"]["spec"])
            previous = self.schedulable = (
                snapshot,
                deployment.digest,
                schedulable_replicas(shape, snapshot.nodes),
            )
        return previous[2]

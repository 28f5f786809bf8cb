"""Scaling policy of a resource, as the decision code reads it.

A policy is built from `spec.autoscaling`, and its fields are valid. The defaults are the schema's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from r1_operator.api import scaling as api
from r1_operator.api.budget import CapacityPolicy
from r1_operator.api.scaling import (
    LATENCY_TYPES,
    Activation,
    Autoscaling,
    ClassName,
    DownPolicy,
    MetricType,
    PolicyType,
    ScalingRate,
)
from r1_operator.plan.scaling.forecast_rules.peak_quantile import peak_quantile, waste_seconds
from r1_operator.plan.scaling.reasons import DecisionReason


@dataclass(frozen=True, slots=True)
class Ceiling:
    """Most replicas that one budget allows, with a clause for messages."""

    replicas: int
    reason: DecisionReason
    clause: str


def tightest(ceilings: Sequence[Ceiling]) -> Ceiling | None:
    """Return the lowest ceiling, None where there is none."""
    return min(ceilings, key=lambda ceiling: ceiling.replicas, default=None)


@dataclass(frozen=True, slots=True)
class MetricTarget:
    """A metric and its target per replica (rates per second).

    Of a latency `target` is the objective in milliseconds, of the requests of `priority_class`
    (None: of all); `percentile` is a share of one, None for the mean; `step` is the factor of a
    step rule, None for a proportional one. `query` is the PromQL of an External metric.
    """

    type: MetricType
    target: float
    name: str = ""
    priority_class: ClassName | None = None
    percentile: float | None = None
    step: float | None = None
    query: str = ""

    @property
    def label(self) -> str:
        """Type and name in messages and state: `TimeToFirstToken/urgent`."""
        return f"{self.type.value}/{self.name}" if self.name else self.type.value

    @property
    def counted(self) -> bool:
        """Whether the gateways count it as load that replicas share."""
        return self.type not in LATENCY_TYPES and self.type is not MetricType.EXTERNAL


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most `value` pods, or percent of the count, within any `period_seconds`."""

    type: PolicyType
    value: float
    period_seconds: float


@dataclass(frozen=True, slots=True)
class UpBehavior:
    """How fast the count may rise. Of several limits the widest holds; none means no limit."""

    stabilization_window_seconds: float = 0.0
    limits: tuple[RateLimit, ...] = (
        RateLimit(PolicyType.PERCENT, 100, 15),
        RateLimit(PolicyType.PODS, 4, 15),
    )


@dataclass(frozen=True, slots=True)
class DownBehavior:
    """When and how fast the count may fall."""

    policy: DownPolicy = DownPolicy.STABILIZED
    stabilization_window_seconds: float = 300.0
    threshold_percent: float = 60.0
    limits: tuple[RateLimit, ...] = (RateLimit(PolicyType.PERCENT, 100, 15),)


@dataclass(frozen=True, slots=True)
class ForecastPolicy:
    """Activation, quantile (None: the newsvendor's) and horizon of the forecast."""

    activation: Activation = Activation.REQUIRE_BACKTEST
    quantile: float | None = None
    horizon_seconds: float = 600.0


@dataclass(frozen=True, slots=True)
class ScalingPolicy:
    """The whole policy of one resource.

    `backlog_threshold_seconds`: wait of the oldest request from which the queue is a backlog.
    `backlog_drain_seconds`: time in which a backlog should drain. `ceilings`: budgets in replicas.
    `bindable`: limit scale-ups to schedulable replicas plus `pending_replicas`.
    """

    min_replicas: int
    max_replicas: int
    metrics: tuple[MetricTarget, ...]
    target_utilization: float = 0.7
    up: UpBehavior = field(default_factory=UpBehavior)
    down: DownBehavior = field(default_factory=DownBehavior)
    forecast: ForecastPolicy = field(default_factory=ForecastPolicy)
    backlog_threshold_seconds: float = 5.0
    backlog_drain_seconds: float = 30.0
    ceilings: tuple[Ceiling, ...] = ()
    bindable: bool = False
    pending_replicas: int = 1

    @property
    def effective_max(self) -> int:
        """Most replicas that maximum and budgets allow; a budget does not go below the minimum."""
        budget = tightest(self.ceilings)
        if budget is None:
            return self.max_replicas
        return max(self.min_replicas, min(self.max_replicas, budget.replicas))

    @property
    def peak_utilization(self) -> float:
        """Utilization up to which an upper quantile of the predicted peak may fill replicas.

        Half of the headroom: the headroom is for unknown demand, and an upper quantile already contains
        demand that is only likely.
        """
        return max(self.target_utilization, (1 + self.target_utilization) / 2)

    def peak_quantile(self, lead_seconds: float) -> float:
        """Quantile of the peak that replicas are planned for: the user's, or the newsvendor's."""
        return peak_quantile(self.forecast.quantile, lead_seconds, self.waste_seconds(lead_seconds))

    def waste_seconds(self, lead_seconds: float) -> float:
        """Seconds that a replica is assumed to stay though it is not needed."""
        return waste_seconds(self.down.stabilization_window_seconds, lead_seconds)


def policy_of(autoscaling: Autoscaling, ceilings: tuple[Ceiling, ...] = ()) -> ScalingPolicy:
    """Return the policy of a `spec.autoscaling`.

    `ceilings` are those of `ceilings_of`: they depend on the pod, which is outside of autoscaling.
    """
    up, down = autoscaling.behavior.scale_up, autoscaling.behavior.scale_down
    return ScalingPolicy(
        min_replicas=autoscaling.min_replicas,
        max_replicas=autoscaling.max_replicas,
        metrics=tuple(_metric_target(metric) for metric in autoscaling.metrics),
        target_utilization=autoscaling.target_utilization_percent / 100,
        up=UpBehavior(up.stabilization_window_seconds, _limits(up.policies)),
        down=DownBehavior(
            down.policy,
            down.stabilization_window_seconds,
            down.threshold_percent,
            _limits(down.policies),
        ),
        forecast=ForecastPolicy(
            autoscaling.forecast.activation,
            None
            if autoscaling.forecast.quantile_percent is None
            else autoscaling.forecast.quantile_percent / 100,
            autoscaling.forecast.horizon_seconds,
        ),
        ceilings=ceilings,
        bindable=autoscaling.capacity.policy is CapacityPolicy.BINDABLE,
        pending_replicas=autoscaling.capacity.pending_replicas,
    )


def _metric_target(metric: api.MetricSpec) -> MetricTarget:
    return MetricTarget(
        type=metric.type,
        target=float(metric.target.value),
        name=metric.name or "",
        priority_class=metric.priority_class,
        percentile=None if metric.percentile is None else metric.percentile / 100,
        step=None if metric.step_percent is None else metric.step_percent / 100,
        query=metric.query or "",
    )


def _limits(rates: tuple[ScalingRate, ...]) -> tuple[RateLimit, ...]:
    return tuple(RateLimit(rate.type, rate.value, rate.period_seconds) for rate in rates)

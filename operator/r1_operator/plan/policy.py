"""What the user asks of scaling, as the decision code reads it.

Built from the resource's `autoscaling` field at the edge; by the time a policy exists its fields
are valid. The defaults are the schema's.
"""

from dataclasses import dataclass, field
from enum import StrEnum


class MetricType(StrEnum):
    """What is counted per replica."""

    REQUESTS_PER_SECOND = "RequestsPerSecond"
    TOKENS_PER_SECOND = "TokensPerSecond"
    CONCURRENCY = "Concurrency"
    QUEUE_LENGTH = "QueueLength"


class DownPolicy(StrEnum):
    """When a lower count is believed.

    `Stabilized` takes the highest need of the window; `Threshold` waits until the need is below
    a share of the current count. At equal service the first is 5 to 13 % cheaper.
    """

    STABILIZED = "Stabilized"
    THRESHOLD = "Threshold"


class Activation(StrEnum):
    """When a forecast may raise the count: never, shown only, while its backtest wins, always."""

    NEVER = "Never"
    ADVISORY = "Advisory"
    REQUIRE_BACKTEST = "RequireBacktest"
    ALWAYS = "Always"


class RateType(StrEnum):
    """The unit of a rate limit."""

    PODS = "Pods"
    PERCENT = "Percent"


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric and what one replica can take of it (rates per second)."""

    type: MetricType
    target: float


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most `value` pods, or percent of the count, within any `period_seconds`."""

    type: RateType
    value: float
    period_seconds: float


@dataclass(frozen=True, slots=True)
class UpBehavior:
    """How fast the count may rise. Of several limits the widest holds; none means no limit."""

    stabilization_window_seconds: float = 0.0
    limits: tuple[RateLimit, ...] = (
        RateLimit(RateType.PERCENT, 100, 15),
        RateLimit(RateType.PODS, 4, 15),
    )


@dataclass(frozen=True, slots=True)
class DownBehavior:
    """When and how fast the count may fall."""

    policy: DownPolicy = DownPolicy.STABILIZED
    stabilization_window_seconds: float = 300.0
    threshold_percent: float = 60.0
    limits: tuple[RateLimit, ...] = (RateLimit(RateType.PERCENT, 100, 15),)


@dataclass(frozen=True, slots=True)
class ForecastUse:
    """When the forecast acts and which quantile of it counts."""

    activation: Activation = Activation.REQUIRE_BACKTEST
    quantile: float = 0.9
    horizon_seconds: float = 600.0


@dataclass(frozen=True, slots=True)
class ScalingPolicy:
    """The whole policy of one resource.

    `backlog_patience_seconds` is how long the oldest request may wait before the queue counts as
    a backlog, `backlog_drain_seconds` the time in which a backlog should be gone.
    """

    min_replicas: int
    max_replicas: int
    metrics: tuple[Metric, ...]
    target_utilization: float = 0.7
    up: UpBehavior = field(default_factory=UpBehavior)
    down: DownBehavior = field(default_factory=DownBehavior)
    forecast: ForecastUse = field(default_factory=ForecastUse)
    backlog_patience_seconds: float = 5.0
    backlog_drain_seconds: float = 30.0

"""Spec types for priority classes, metrics, scaling behavior and forecast."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, ClassVar

from r1_common.kube.quantity import Quantity
from r1_operator.api.budget import Budget, Capacity
from r1_operator.api.fields.declare import Doc, Rule
from r1_operator.api.names import LONGEST_NAME, NAME


class ClassName(StrEnum):
    """Priority classes: Q1 is urgent, Q2 normal, Q3 batch."""

    Q1 = "Q1"
    Q2 = "Q2"
    Q3 = "Q3"


class MetricType(StrEnum):
    """Replicas share loads; latencies are objectives; External is the result of a PromQL query."""

    REQUESTS_PER_SECOND = "RequestsPerSecond"
    TOKENS_PER_SECOND = "TokensPerSecond"
    CONCURRENCY = "Concurrency"
    QUEUE_LENGTH = "QueueLength"
    TIME_TO_FIRST_TOKEN = "TimeToFirstToken"  # noqa: S105 (a token of text)
    MEAN_LATENCY = "MeanLatency"
    EXTERNAL = "External"


LATENCY_TYPES = frozenset({MetricType.TIME_TO_FIRST_TOKEN, MetricType.MEAN_LATENCY})
_LATENCIES = "['TimeToFirstToken', 'MeanLatency']"


class PolicyType(StrEnum):
    PERCENT = "Percent"
    PODS = "Pods"


class DownPolicy(StrEnum):
    """Stabilized: down to the highest recommendation of the window. Threshold: large drops only."""

    STABILIZED = "Stabilized"
    THRESHOLD = "Threshold"


class Activation(StrEnum):
    """When a forecast may raise the count; Advisory shows the forecast and never acts."""

    NEVER = "Never"
    ADVISORY = "Advisory"
    REQUIRE_BACKTEST = "RequireBacktest"
    ALWAYS = "Always"


@dataclass(frozen=True, slots=True)
class PriorityClassSpec:
    """Limits and SLO targets of one class; absent fields take the default of the class."""

    name: Annotated[
        ClassName, Doc("is the priority class: Q1 (urgent), Q2 (normal) or Q3 (batch).")
    ]
    max_queue_length: Annotated[
        int | None,
        Doc(
            "is the number of requests that may queue at one gateway. A further request "
            "gets HTTP status 429. When absent, the default of the class applies.",
            minimum=0,
            maximum=1_000_000,
        ),
    ] = None
    max_queue_seconds: Annotated[
        int | None,
        Doc(
            "is the queue timeout in seconds: a request that waits longer is rejected. When"
            " absent, the default of the class applies.",
            minimum=1,
            maximum=86_400,
        ),
    ] = None
    age_after_seconds: Annotated[
        int | None,
        Doc(
            "is the wait in seconds after which a request ages: the gateway then sends it "
            "before more urgent requests now and then. When absent, the default of the "
            "class applies.",
            minimum=1,
            maximum=86_400,
        ),
    ] = None
    time_to_first_token_milliseconds: Annotated[
        int | None,
        Doc(
            "is the SLO target for the time to first token, in milliseconds. When absent, "
            "the default of the class applies.",
            minimum=1,
            maximum=86_400_000,
        ),
    ] = None


@dataclass(frozen=True, slots=True)
class Priority:
    default_class: Annotated[ClassName, Doc("is the class of a request that names none.")] = (
        ClassName.Q2
    )
    classes: Annotated[
        tuple[PriorityClassSpec, ...],
        Doc(
            "overrides the limits of classes, with at most one entry per class.",
            max_items=3,
            keys=("name",),
        ),
    ] = ()


@dataclass(frozen=True, slots=True)
class MetricSpec:
    type: Annotated[
        MetricType,
        Doc(
            "is the measured quantity. RequestsPerSecond, TokensPerSecond, Concurrency and "
            "QueueLength are loads that the replicas share. TimeToFirstToken and "
            "MeanLatency are latency objectives. External is the result of query."
        ),
    ]
    target: Annotated[
        Quantity,
        Doc(
            "is the load that one replica can serve. For TimeToFirstToken and MeanLatency "
            "it is the objective in milliseconds, for External the value per replica. It is"
            ' an integer or a quantity such as 500m or "0.5".',
            max_length=32,
            positive=True,
        ),
    ]
    name: Annotated[
        str | None,
        Doc(
            "identifies the metric in messages. Metrics of one type need different names.",
            max_length=63,
            pattern=r"^[A-Za-z0-9]([-_.A-Za-z0-9]*[A-Za-z0-9])?$",
        ),
    ] = None
    priority_class: Annotated[
        ClassName | None,
        Doc(
            "is the class whose latency is measured. When absent, the latency of all "
            "requests is measured."
        ),
    ] = None
    percentile: Annotated[
        int | None,
        Doc(
            "is the percentile of TimeToFirstToken that has to meet target. When absent, "
            "the mean has to meet it.",
            minimum=50,
            maximum=99,
        ),
    ] = None
    step_percent: Annotated[
        int | None,
        Doc(
            "selects a step rule for a latency: above target, the recommendation is this "
            "percentage of the current replicas. When absent, replicas grow in proportion "
            "to the excess, to double the count at most.",
            minimum=101,
            maximum=400,
        ),
    ] = None
    query: Annotated[
        str | None,
        Doc(
            "is the PromQL query of an External metric. Its result has to be one value.",
            min_length=1,
            max_length=2048,
        ),
    ] = None

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "(self.type == 'External') == has(self.query)",
            "query is required with type External and not allowed with any other type",
            lambda self: (self.type is MetricType.EXTERNAL) == (self.query is not None),
            "query",
        ),
        Rule(
            "!has(self.percentile) || self.type == 'TimeToFirstToken'",
            "percentile is allowed with type TimeToFirstToken only",
            lambda self: self.percentile is None or self.type is MetricType.TIME_TO_FIRST_TOKEN,
            "percentile",
        ),
        Rule(
            f"!has(self.stepPercent) || self.type in {_LATENCIES}",
            "stepPercent is allowed with types TimeToFirstToken and MeanLatency only",
            lambda self: self.step_percent is None or self.type in LATENCY_TYPES,
            "stepPercent",
        ),
        Rule(
            f"!has(self.priorityClass) || self.type in {_LATENCIES}",
            "priorityClass is allowed with types TimeToFirstToken and MeanLatency only",
            lambda self: self.priority_class is None or self.type in LATENCY_TYPES,
            "priorityClass",
        ),
    )


@dataclass(frozen=True, slots=True)
class ScalingRate:
    """At most `value` pods, or percent of the count, in any `period_seconds`."""

    type: Annotated[
        PolicyType, Doc("is the unit of value: Percent of the current replicas, or Pods.")
    ]
    value: Annotated[
        int, Doc("is the largest change within one period.", minimum=1, maximum=10_000)
    ]
    period_seconds: Annotated[
        int, Doc("is the length of the period in seconds.", minimum=1, maximum=1800)
    ]


_DOUBLE = ScalingRate(PolicyType.PERCENT, 100, 15)
_FOUR = ScalingRate(PolicyType.PODS, 4, 15)
_RATES = "limit the rate of change. The policy that allows the largest change applies."


@dataclass(frozen=True, slots=True)
class ScaleUp:
    stabilization_window_seconds: Annotated[
        int,
        Doc(
            "is the time in seconds for which a higher count has to be recommended before "
            "the count rises.",
            minimum=0,
            maximum=3600,
        ),
    ] = 0
    policies: Annotated[tuple[ScalingRate, ...], Doc(_RATES, min_items=1, max_items=8)] = (
        _DOUBLE,
        _FOUR,
    )


@dataclass(frozen=True, slots=True)
class ScaleDown:
    policy: Annotated[
        DownPolicy,
        Doc(
            "is the scale-down rule. Stabilized scales down to the highest recommendation "
            "of the window. Threshold scales down only while the recommendation is below "
            "thresholdPercent of the current replicas."
        ),
    ] = DownPolicy.STABILIZED
    stabilization_window_seconds: Annotated[
        int,
        Doc("is the window of the Stabilized policy in seconds.", minimum=0, maximum=3600),
    ] = 300
    threshold_percent: Annotated[
        int,
        Doc(
            "is the limit of the Threshold policy, in percent of the current replicas.",
            minimum=1,
            maximum=99,
        ),
    ] = 60
    policies: Annotated[tuple[ScalingRate, ...], Doc(_RATES, min_items=1, max_items=8)] = (_DOUBLE,)


@dataclass(frozen=True, slots=True)
class Behavior:
    scale_up: Annotated[ScaleUp, Doc("limits how fast the count rises.")] = ScaleUp()
    scale_down: Annotated[ScaleDown, Doc("limits how fast the count falls.")] = ScaleDown()


@dataclass(frozen=True, slots=True)
class ForecastSpec:
    activation: Annotated[
        Activation,
        Doc(
            "is the condition under which the forecast may raise the count. Never turns the"
            " forecast off. Advisory shows the forecast and does not act on it. "
            "RequireBacktest acts only while the forecast beats simple forecasts on the "
            "history of this resource. Always acts on every available forecast."
        ),
    ] = Activation.REQUIRE_BACKTEST
    backtest_name: Annotated[
        str | None,
        Doc(
            "is the name of an R1Backtest in the same namespace. The forecast acts only if "
            "that backtest found this spec.autoscaling at most as expensive as its "
            "baseline. When absent, RequireBacktest relies on the rolling backtest of the "
            "forecaster alone.",
            min_length=1,
            max_length=LONGEST_NAME,
            pattern=NAME,
        ),
    ] = None
    horizon_seconds: Annotated[
        int, Doc("is how far ahead the forecast reaches, in seconds.", minimum=10, maximum=86_400)
    ] = 600
    quantile_percent: Annotated[
        int | None,
        Doc(
            "is the quantile of the forecast peak for which replicas are planned, in "
            "percent. When absent, the cost of a missing replica and of an idle replica "
            "over the lead time gives it: 91 in most cases.",
            minimum=50,
            maximum=99,
        ),
    ] = None
    season_seconds: Annotated[
        int,
        Doc(
            "is the period of the repeating load pattern, in seconds.", minimum=2, maximum=2_592_000
        ),
    ] = 86_400
    step_seconds: Annotated[
        int, Doc("is the resolution of history and forecast, in seconds.", minimum=1, maximum=3600)
    ] = 60
    history_seconds: Annotated[
        int,
        Doc(
            "is the length of the history that models are trained on, in seconds.",
            minimum=2,
            maximum=31_536_000,
        ),
    ] = 1_209_600

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.backtestName) || self.activation == 'RequireBacktest'",
            "backtestName is allowed with activation RequireBacktest only",
            lambda self: (
                self.backtest_name is None or self.activation is Activation.REQUIRE_BACKTEST
            ),
            "backtestName",
        ),
        Rule(
            "self.stepSeconds <= self.horizonSeconds",
            "horizonSeconds must be at least stepSeconds",
            lambda self: self.step_seconds <= self.horizon_seconds,
            "horizonSeconds",
        ),
        Rule(
            "self.seasonSeconds >= 2 * self.stepSeconds",
            "seasonSeconds must be at least twice stepSeconds",
            lambda self: self.season_seconds >= 2 * self.step_seconds,
            "seasonSeconds",
        ),
        Rule(
            "self.historySeconds >= 2 * self.seasonSeconds",
            "historySeconds must be at least twice seasonSeconds: training needs two seasons",
            lambda self: self.history_seconds >= 2 * self.season_seconds,
            "historySeconds",
        ),
    )


@dataclass(frozen=True, slots=True)
class Autoscaling:
    max_replicas: Annotated[
        int, Doc("is the upper limit of the replica count.", minimum=1, maximum=10_000)
    ]
    metrics: Annotated[
        tuple[MetricSpec, ...],
        Doc(
            "are the metrics that set the count. The highest recommendation applies.",
            min_items=1,
            max_items=8,
        ),
    ]
    min_replicas: Annotated[
        int,
        Doc(
            "is the lower limit of the replica count. With 0, an idle resource scales to zero.",
            minimum=0,
            maximum=10_000,
        ),
    ] = 1
    target_utilization_percent: Annotated[
        int,
        Doc(
            "is the planned utilization of one replica, in percent of its target load. The "
            "rest is headroom for rising load.",
            minimum=1,
            maximum=100,
        ),
    ] = 70
    behavior: Annotated[Behavior, Doc("limits how fast the count changes.")] = Behavior()
    forecast: Annotated[
        ForecastSpec,
        Doc("configures predictive scaling, which raises the count before the load rises."),
    ] = ForecastSpec()
    budget: Annotated[
        Budget | None,
        Doc(
            "limits the accelerators, the cost and the power of all replicas together. The "
            "tightest limit applies, even where it is below maxReplicas."
        ),
    ] = None
    capacity: Annotated[
        Capacity,
        Doc("configures what is requested when no node has free capacity for another replica."),
    ] = field(default_factory=Capacity)

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.minReplicas <= self.maxReplicas",
            "minReplicas must be at most maxReplicas",
            lambda self: self.min_replicas <= self.max_replicas,
            "minReplicas",
        ),
        Rule(
            "self.metrics.all(one, self.metrics.exists_one(other, one.type == other.type && "
            "(has(one.name) ? one.name : '') == (has(other.name) ? other.name : '')))",
            "metrics of one type must have different names",
            lambda self: _all_differ((metric.type, metric.name or "") for metric in self.metrics),
            "metrics",
        ),
    )


def _all_differ(identities: Iterable[tuple[MetricType, str]]) -> bool:
    listed = list(identities)
    return len(set(listed)) == len(listed)

"""The parts of the spec that shape load: priority classes, autoscaling, behaviour, forecast."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, ClassVar

from r1_operator.api.budget import Budget, Capacity
from r1_operator.api.declare import Doc, Rule
from r1_operator.api.names import LONGEST_NAME, NAME
from r1_operator.api.quantity import Quantity


class ClassName(StrEnum):
    """Priority classes: Q1 is urgent, Q2 normal, Q3 fills what is idle."""

    Q1 = "Q1"
    Q2 = "Q2"
    Q3 = "Q3"


class MetricType(StrEnum):
    """Loads are counted and shared among replicas; latencies are objectives; External is asked."""

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
    """Stabilized: to the largest count of the window. Threshold: only a large drop counts."""

    STABILIZED = "Stabilized"
    THRESHOLD = "Threshold"


class Activation(StrEnum):
    """When a forecast may raise the count; Advisory computes and shows, never acts."""

    NEVER = "Never"
    ADVISORY = "Advisory"
    REQUIRE_BACKTEST = "RequireBacktest"
    ALWAYS = "Always"


@dataclass(frozen=True, slots=True)
class PriorityClassSpec:
    """Limits and objectives of one class; what is absent takes the class's default."""

    name: Annotated[ClassName, Doc("is the class.")]
    max_queue_length: Annotated[
        int | None,
        Doc(
            "is how many requests may wait at one gateway; the next one gets 429.",
            minimum=0,
            maximum=1_000_000,
        ),
    ] = None
    max_queue_seconds: Annotated[
        int | None,
        Doc("is how long a request may wait before it is refused.", minimum=1, maximum=86_400),
    ] = None
    age_after_seconds: Annotated[
        int | None,
        Doc(
            "is the wait after which a request may pass in front of more urgent ones now and then.",
            minimum=1,
            maximum=86_400,
        ),
    ] = None
    time_to_first_token_milliseconds: Annotated[
        int | None,
        Doc("is the objective for the first token.", minimum=1, maximum=86_400_000),
    ] = None


@dataclass(frozen=True, slots=True)
class Priority:
    default_class: Annotated[ClassName, Doc("is the class of requests that name none.")] = (
        ClassName.Q2
    )
    classes: Annotated[
        tuple[PriorityClassSpec, ...],
        Doc(
            "changes the limits of classes; at most one entry per class.",
            max_items=3,
            keys=("name",),
        ),
    ] = ()


@dataclass(frozen=True, slots=True)
class MetricSpec:
    type: Annotated[MetricType, Doc("is what is measured.")]
    target: Annotated[
        Quantity,
        Doc(
            "is what one replica can carry; of TimeToFirstToken and MeanLatency it is the "
            "objective in milliseconds, of External the value per replica. An integer or a "
            'quantity such as 500m or "0.5".',
            max_length=32,
            positive=True,
        ),
    ]
    name: Annotated[
        str | None,
        Doc(
            "tells metrics of one type apart, in messages too.",
            max_length=63,
            pattern=r"^[A-Za-z0-9]([-_.A-Za-z0-9]*[A-Za-z0-9])?$",
        ),
    ] = None
    priority_class: Annotated[
        ClassName | None,
        Doc("is the class whose latency counts; absent means all requests."),
    ] = None
    percentile: Annotated[
        int | None,
        Doc(
            "is the percentile of TimeToFirstToken that should keep to target; absent means "
            "the mean.",
            minimum=50,
            maximum=99,
        ),
    ] = None
    step_percent: Annotated[
        int | None,
        Doc(
            "makes a latency a step rule: above target so many percent of the replicas are "
            "asked for; absent means in proportion to the excess, at most double.",
            minimum=101,
            maximum=400,
        ),
    ] = None
    query: Annotated[
        str | None,
        Doc("is the PromQL of External; it has to give one value.", min_length=1, max_length=2048),
    ] = None

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "(self.type == 'External') == has(self.query)",
            "query must be set with type External, and with no other",
            lambda self: (self.type is MetricType.EXTERNAL) == (self.query is not None),
            "query",
        ),
        Rule(
            "!has(self.percentile) || self.type == 'TimeToFirstToken'",
            "percentile goes with type TimeToFirstToken alone",
            lambda self: self.percentile is None or self.type is MetricType.TIME_TO_FIRST_TOKEN,
            "percentile",
        ),
        Rule(
            f"!has(self.stepPercent) || self.type in {_LATENCIES}",
            "stepPercent goes with types TimeToFirstToken and MeanLatency alone",
            lambda self: self.step_percent is None or self.type in LATENCY_TYPES,
            "stepPercent",
        ),
        Rule(
            f"!has(self.priorityClass) || self.type in {_LATENCIES}",
            "priorityClass goes with types TimeToFirstToken and MeanLatency alone",
            lambda self: self.priority_class is None or self.type in LATENCY_TYPES,
            "priorityClass",
        ),
    )


@dataclass(frozen=True, slots=True)
class ScalingRate:
    """At most `value` pods, or percent of the count, in any `period_seconds`."""

    type: Annotated[PolicyType, Doc("says whether value is percent of the count or pods.")]
    value: Annotated[int, Doc("is the largest change in a period.", minimum=1, maximum=10_000)]
    period_seconds: Annotated[int, Doc("is the period's length.", minimum=1, maximum=1800)]


_DOUBLE = ScalingRate(PolicyType.PERCENT, 100, 15)
_FOUR = ScalingRate(PolicyType.PODS, 4, 15)
_RATES = "bound the speed; the one that allows most wins."


@dataclass(frozen=True, slots=True)
class ScaleUp:
    stabilization_window_seconds: Annotated[
        int,
        Doc("delays a rise until it was wanted for so long.", minimum=0, maximum=3600),
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
            "is the rule for a fall: Stabilized falls to the largest count wanted in the window, "
            "Threshold falls only when the wanted count is below thresholdPercent of the current."
        ),
    ] = DownPolicy.STABILIZED
    stabilization_window_seconds: Annotated[
        int,
        Doc("is the window of Stabilized.", minimum=0, maximum=3600),
    ] = 300
    threshold_percent: Annotated[
        int, Doc("is the threshold of Threshold.", minimum=1, maximum=99)
    ] = 60
    policies: Annotated[tuple[ScalingRate, ...], Doc(_RATES, min_items=1, max_items=8)] = (_DOUBLE,)


@dataclass(frozen=True, slots=True)
class Behavior:
    scale_up: Annotated[ScaleUp, Doc("shapes rises.")] = ScaleUp()
    scale_down: Annotated[ScaleDown, Doc("shapes falls.")] = ScaleDown()


@dataclass(frozen=True, slots=True)
class ForecastSpec:
    activation: Annotated[
        Activation,
        Doc(
            "says when the forecast may raise the count: RequireBacktest only while it beats the "
            "simple forecasts on this resource's own history."
        ),
    ] = Activation.REQUIRE_BACKTEST
    backtest_name: Annotated[
        str | None,
        Doc(
            "names the R1Backtest, in the same namespace, that has to have found this very "
            "spec.autoscaling no dearer before the forecast acts; absent means that "
            "RequireBacktest asks the forecaster's rolling backtest alone.",
            min_length=1,
            max_length=LONGEST_NAME,
            pattern=NAME,
        ),
    ] = None
    horizon_seconds: Annotated[
        int, Doc("is how far ahead the forecast looks.", minimum=10, maximum=86_400)
    ] = 600
    quantile_percent: Annotated[
        int | None,
        Doc(
            "is the quantile of the load that replicas are made for; absent means the one that "
            "what a missing replica costs against a needless one over the start-up time gives: "
            "91 in most cases.",
            minimum=50,
            maximum=99,
        ),
    ] = None
    season_seconds: Annotated[
        int, Doc("is the length of the load's repeating pattern.", minimum=2, maximum=2_592_000)
    ] = 86_400
    step_seconds: Annotated[
        int, Doc("is the step of history and forecast.", minimum=1, maximum=3600)
    ] = 60
    history_seconds: Annotated[
        int, Doc("is how much history is learned from.", minimum=2, maximum=31_536_000)
    ] = 1_209_600

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.backtestName) || self.activation == 'RequireBacktest'",
            "backtestName goes with activation RequireBacktest alone",
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
            "historySeconds must be at least twice seasonSeconds: a season is learned from "
            "its repetition",
            lambda self: self.history_seconds >= 2 * self.season_seconds,
            "historySeconds",
        ),
    )


@dataclass(frozen=True, slots=True)
class Autoscaling:
    max_replicas: Annotated[int, Doc("is the largest count.", minimum=1, maximum=10_000)]
    metrics: Annotated[
        tuple[MetricSpec, ...],
        Doc(
            "are what sets the count; the one that asks for most wins.",
            min_items=1,
            max_items=8,
        ),
    ]
    min_replicas: Annotated[
        int,
        Doc("is the smallest count; with 0 an idle resource sleeps.", minimum=0, maximum=10_000),
    ] = 1
    target_utilization_percent: Annotated[
        int,
        Doc(
            "is how full a replica may be: the rest is for what comes next.", minimum=1, maximum=100
        ),
    ] = 70
    behavior: Annotated[Behavior, Doc("shapes how fast the count moves.")] = Behavior()
    forecast: Annotated[ForecastSpec, Doc("lets replicas rise before the load does.")] = (
        ForecastSpec()
    )
    budget: Annotated[
        Budget | None,
        Doc(
            "bounds what all replicas together hold, cost and draw; the tightest bound wins, over "
            "maxReplicas too."
        ),
    ] = None
    capacity: Annotated[
        Capacity, Doc("says what to ask for when the cluster has no room for more replicas.")
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
            "metrics of one type need a different name each",
            lambda self: _all_differ((metric.type, metric.name or "") for metric in self.metrics),
            "metrics",
        ),
    )


def _all_differ(identities: Iterable[tuple[MetricType, str]]) -> bool:
    found = list(identities)
    return len(set(found)) == len(found)

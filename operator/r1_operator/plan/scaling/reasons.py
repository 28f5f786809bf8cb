"""Reasons and modes of a scaling decision, as the API shows them."""

from enum import StrEnum


class DecisionReason(StrEnum):
    """The binding constraint of a decision."""

    WITHIN_TARGET = "WithinTarget"
    REAL_TIME_DEMAND = "RealTimeDemand"
    FORECAST_DEMAND = "ForecastDemand"
    LATENCY_OBJECTIVE = "LatencyObjective"
    EXTERNAL_METRIC = "ExternalMetric"
    QUEUE_BACKLOG = "QueueBacklog"
    SCALING_FROM_ZERO = "ScalingFromZero"
    IDLE = "Idle"
    AWAITING_IDLE = "AwaitingIdle"
    STABILIZED = "Stabilized"
    RATE_LIMITED = "RateLimited"
    METRICS_UNAVAILABLE = "MetricsUnavailable"
    AT_MIN = "AtMin"
    AT_MAX = "AtMax"
    AT_GPU_BUDGET = "AtGpuBudget"
    AT_COST_BUDGET = "AtCostBudget"
    AT_POWER_BUDGET = "AtPowerBudget"
    OVER_BUDGET = "OverBudget"
    INSUFFICIENT_CAPACITY = "InsufficientCapacity"
    MANUAL = "Manual"


class DecisionMode(StrEnum):
    """What drives the count: the user, demand now, or demand now and a forecast that may act."""

    MANUAL = "Manual"
    REACTIVE = "Reactive"
    PREDICTIVE = "Predictive"

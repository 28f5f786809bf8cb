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
    SCALE_TO_ZERO_COOLDOWN = "ScaleToZeroCooldown"
    STABILIZED = "Stabilized"
    RECENT_PEAK = "RecentPeak"
    RATE_LIMITED = "RateLimited"
    METRICS_UNAVAILABLE = "MetricsUnavailable"
    AT_MIN_REPLICAS = "AtMinReplicas"
    AT_MAX_REPLICAS = "AtMaxReplicas"
    AT_GPU_BUDGET = "AtGpuBudget"
    AT_COST_BUDGET = "AtCostBudget"
    AT_POWER_BUDGET = "AtPowerBudget"
    OVER_BUDGET = "OverBudget"
    INSUFFICIENT_CAPACITY = "InsufficientCapacity"
    MANUAL = "Manual"


class DecisionMode(StrEnum):
    """Driver of the count: the user, current demand, or current demand and an acting forecast."""

    MANUAL = "Manual"
    REACTIVE = "Reactive"
    PREDICTIVE = "Predictive"

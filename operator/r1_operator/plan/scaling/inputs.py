"""Inputs of a scaling decision."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from r1_common.contracts.unavailable import Unavailable
from r1_operator.api.scaling import ClassName
from r1_operator.plan.placement.schedulable import UNKNOWN_PLACEMENT, Placement
from r1_operator.plan.scaling.forecast_rules.forecast_approval import ForecastApproval
from r1_operator.plan.signals.class_arrivals import ClassArrivals
from r1_operator.plan.signals.demand import Demand
from r1_operator.plan.signals.forecast import ReceivedForecast
from r1_operator.plan.signals.latencies import NOT_REPORTED, Latencies
from r1_operator.plan.signals.lead_time import LeadTime
from r1_operator.plan.unavailable import LowerBound


@dataclass(frozen=True, slots=True)
class ScalingInputs:
    """Observations of one resource.

    `current`: replicas in the Deployment's spec; `ready`: pods that serve. `forecast`: None without a
    forecaster. `lead_time`: None where start-ups are not measured. `external`: values of External
    metrics by label. `placement`: known where the policy needs it. `class_arrivals`: arrivals by
    priority class (None: not read). `slo_targets`: time to first token by class, in seconds.
    `forecast_approval`: result of the required backtest (None: none is required).
    """

    current: int
    ready: int
    demand: Demand | Unavailable
    forecast: ReceivedForecast | Unavailable | None = None
    seats_per_replica: int = 8
    latencies: Latencies | Unavailable = NOT_REPORTED
    external: Mapping[str, float | LowerBound | Unavailable] = field(default_factory=dict)
    lead_time: LeadTime | None = None
    placement: Placement = UNKNOWN_PLACEMENT
    class_arrivals: ClassArrivals | Unavailable | None = None
    slo_targets: Mapping[ClassName, float] = field(default_factory=dict)
    forecast_approval: ForecastApproval | None = None

"""Inputs of a scaling decision."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from r1_operator.api.scaling import ClassName
from r1_operator.plan.placement.schedulable import NOT_ASKED, Placement
from r1_operator.plan.scaling.forecast_approval import ForecastApproval
from r1_operator.plan.signals.class_arrivals import ClassArrivals
from r1_operator.plan.signals.demand import Demand
from r1_operator.plan.signals.forecast import ReceivedForecast
from r1_operator.plan.signals.latency_histograms import NOT_REPORTED, Latencies
from r1_operator.plan.signals.lead_time import LeadTime
from r1_operator.plan.unavailable import LowerBound, Unavailable


@dataclass(frozen=True, slots=True)
class ScalingInputs:
    """What was observed of one resource.

    `current` is the count its Deployment asks for now, `ready` how many pods serve. `forecast`
    is None when none was asked for, `lead` when start-ups are not measured. `external` has the
    values of External metrics by label. `placement` is known where the policy asks for it.
    `urgency` is what each class asks for (None: nobody looked), `promises` are times to first token
    in seconds. `proof` is what the backtest says that has to let the forecast act (None: none has).
    """

    current: int
    ready: int
    demand: Demand | Unavailable
    forecast: ReceivedForecast | Unavailable | None = None
    seats_per_replica: int = 8
    latencies: Latencies | Unavailable = NOT_REPORTED
    external: Mapping[str, float | LowerBound | Unavailable] = field(default_factory=dict)
    lead: LeadTime | None = None
    placement: Placement = NOT_ASKED
    urgency: ClassArrivals | Unavailable | None = None
    promises: Mapping[ClassName, float] = field(default_factory=dict)
    proof: ForecastApproval | None = None

"""Replicas that the forecast recommends, and the limits on its effect.

The forecast has two levels and never lowers the real-time recommendation:

- *short term*: the policy's quantile of the peak within the lead time, which is the time from the
  decision until a new replica serves. A replica requested later would miss that peak. The quantile
  already contains demand that is only likely, so it may fill half of the target's headroom.
- *mid term*: a later peak needs replicas now only if the scale-up rate limits would stretch the rise
  over several periods. Each point of the horizon is walked back through the limits to the smallest
  count from which it can still be reached in time.

Three limits bound the effect of a wrong forecast:

- *Scale-down*. The forecast confirms a scale-down only while its peak is at least the current demand. A
  lower peak is an error or a fall that has begun, and then the full scale-down window applies. A
  confirmed scale-down does not wait for the window. It stops at the count of the simulated
  HorizontalPodAutoscaler, and at the replicas that the peak of the last three lead times filled
  completely: such a burst may return sooner than a stopped replica starts again.
- *Overforecast*. A forecast that recommends more than twice the replicas that demand needs, for twice the
  lead time (plus the horizon for a later peak), is ignored until it recommends less.
- *Cost*. The total is bounded by the forecast budget (`forecast_budget.py`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from r1_common.contracts.unavailable import Unavailable
from r1_operator.api.scaling import Activation
from r1_operator.plan.scaling.decision import ForecastContribution
from r1_operator.plan.scaling.forecast_rules.forecast_budget import SHARE
from r1_operator.plan.scaling.forecast_rules.peak_quantile import shortage_ratio
from r1_operator.plan.scaling.limits.rate_limits import earliest_needed
from r1_operator.plan.scaling.policy import MetricTarget, ScalingPolicy
from r1_operator.plan.scaling.real_time.recommendations import (
    Recommendation,
    clause,
    figure,
    metric_value,
    replicas_for,
)
from r1_operator.plan.scaling.reasons import DecisionReason
from r1_operator.plan.scaling.scaling_state import (
    LOOK_BACK_SECONDS,
    NO_FLOOR,
    RecentPeakFloor,
    ScalingState,
)
from r1_operator.plan.signals.demand import Demand
from r1_operator.plan.signals.forecast import ReceivedForecast, at_level

OVERFORECAST_FACTOR = 2
OVERFORECAST_LEADS = 2.0
RECENT_PEAK_LEADS = 3.0


@dataclass(frozen=True, slots=True)
class PredictiveRecommendation:
    """Recommendation of the forecast and its effect on a scale-down.

    `recommendation` is None while the forecast does not act, `contribution` None without a forecast.
    `confirms_scale_down`: no more than the recommendation is needed within the lead time. Then
    `recent_peak_floor` bounds the scale-down. `overforecast_since`: since when the forecast recommends
    more than twice what demand needs (seconds; None: it does not).
    """

    recommendation: Recommendation | None = None
    contribution: ForecastContribution | None = None
    confirms_scale_down: bool = False
    recent_peak_floor: RecentPeakFloor = NO_FLOOR
    overforecast_since: float | None = None


def predictive_recommendation(
    policy: ScalingPolicy,
    forecast: ReceivedForecast | Unavailable | None,
    demand: Demand | Unavailable,
    recommendations: Sequence[Recommendation],
    state: ScalingState,
    now: float,
) -> PredictiveRecommendation:
    """Return the forecast's recommendation beside the real-time `recommendations`."""
    activation = policy.forecast.activation
    if activation is Activation.NEVER or forecast is None:
        return PredictiveRecommendation()
    if isinstance(forecast, Unavailable):
        return _unavailable(forecast)
    fault = forecast.fault(now)
    if fault is not None:
        return _unavailable(fault)
    metric = next((m for m in policy.metrics if m.type is forecast.metric), None)
    if metric is None:
        kind = forecast.metric.value
        message = f"The forecast is for {kind}, and the policy has no metric of this type."
        return _unavailable(Unavailable("NoSuchMetric", message))
    peak = at_level(forecast.peak_over_lead, policy.peak_quantile(forecast.lead_seconds))
    soon = _short_term(policy, forecast, metric, peak)
    later = _mid_term(policy, forecast, metric, now)
    recommendation = later if later.replicas > soon.replicas else soon
    text = recommendation.clause
    if activation is Activation.ADVISORY:
        return _not_acting(recommendation, f"Advisory only: {text}.")
    if activation is Activation.REQUIRE_BACKTEST and not forecast.gate.acts:
        message = f"Not acting ({forecast.gate.reason}): {forecast.gate.message}"
        return _not_acting(recommendation, message)
    bound = OVERFORECAST_FACTOR * max((1, *(other.replicas for other in recommendations)))
    exceeds = recommendation.replicas > bound
    since = _overforecast_since(exceeds, bool(recommendations), state.overforecast_since, now)
    grace = OVERFORECAST_LEADS * forecast.lead_seconds
    if soon.replicas <= bound:
        grace += policy.forecast.horizon_seconds
    if since is not None and now - since > grace:
        message = (
            f"Ignored: for more than {grace:.0f} s the forecast has recommended over "
            f"{OVERFORECAST_FACTOR} times the replicas that demand needs; {text}."
        )
        return _not_acting(recommendation, message, since)
    if state.forecast_budget.exhausted:
        message = (
            f"Paused: the forecast budget is spent, {SHARE:.0%} more replicas than a "
            f"HorizontalPodAutoscaler would run; {text}."
        )
        return _not_acting(recommendation, message, since)
    present = demand if isinstance(demand, Unavailable) else metric_value(metric.type, demand)
    confirms = not isinstance(present, Unavailable) and peak >= present
    span = recent_peak_span(policy, forecast.lead_seconds)
    return PredictiveRecommendation(
        recommendation,
        ForecastContribution(True, recommendation.replicas, f"{forecast.model}: {text}."),
        confirms_scale_down=confirms,
        recent_peak_floor=state.recent_peak(now, span, forecast.lead_seconds)
        if confirms
        else NO_FLOOR,
        overforecast_since=since,
    )


def recent_peak_span(policy: ScalingPolicy, lead_seconds: float) -> float:
    """Return how long (seconds) a recent peak bounds a confirmed scale-down.

    0 where the user's scale-down window is shorter than half of the lead time: that window then
    applies alone.
    """
    if policy.down.stabilization_window_seconds <= lead_seconds / 2:
        return 0.0
    return min(RECENT_PEAK_LEADS * lead_seconds, LOOK_BACK_SECONDS)


def _unavailable(why: Unavailable) -> PredictiveRecommendation:
    return PredictiveRecommendation(
        contribution=ForecastContribution(False, None, why.message, why)
    )


def _not_acting(
    recommendation: Recommendation, message: str, overforecast_since: float | None = None
) -> PredictiveRecommendation:
    return PredictiveRecommendation(
        contribution=ForecastContribution(False, recommendation.replicas, message),
        overforecast_since=overforecast_since,
    )


def _overforecast_since(
    exceeds: bool, demand_known: bool, before: float | None, now: float
) -> float | None:
    # Without real-time demand there is nothing to compare with: the time starts anew.
    if not exceeds or not demand_known:
        return None
    return now if before is None else before


def _short_term(
    policy: ScalingPolicy, forecast: ReceivedForecast, metric: MetricTarget, peak: float
) -> Recommendation:
    utilization, lead = policy.peak_utilization, forecast.lead_seconds
    count = replicas_for(peak, metric, utilization)
    text = (
        f"forecast for the next {lead:.0f} s: up to {clause(peak, metric, utilization, count)} "
        f"({_quantile_clause(policy, lead)})"
    )
    # A scaled-to-zero service is not started for less than one request: the request starts it.
    if policy.min_replicas == 0 and peak * lead < 1:
        return Recommendation(
            0,
            DecisionReason.FORECAST_DEMAND,
            f"forecast for the next {lead:.0f} s: no request ({figure(peak)} requests/s)",
        )
    return Recommendation(count, DecisionReason.FORECAST_DEMAND, text)


def _quantile_clause(policy: ScalingPolicy, lead_seconds: float) -> str:
    text = f"{policy.peak_quantile(lead_seconds):.0%} quantile"
    if policy.forecast.quantile is not None:
        return text
    ratio = shortage_ratio(lead_seconds, policy.waste_seconds(lead_seconds))
    return f"{text}: a missing replica costs {ratio:.0f} times an idle one"


def _mid_term(
    policy: ScalingPolicy, forecast: ReceivedForecast, metric: MetricTarget, now: float
) -> Recommendation:
    limits = policy.up.limits
    best = Recommendation(0, DecisionReason.FORECAST_DEMAND, "")
    if not limits:
        return best
    utilization = policy.peak_utilization
    level = policy.peak_quantile(forecast.lead_seconds)
    period = max(limit.period_seconds for limit in limits)
    for point in forecast.points:
        ahead = point.at - now
        slack = ahead - forecast.lead_seconds
        if slack < 0 or ahead > policy.forecast.horizon_seconds:
            continue
        value = at_level(point.quantiles, level)
        count = replicas_for(value, metric, utilization)
        required = min(count, policy.effective_max)
        floor = earliest_needed(required, limits, math.floor(slack / period))
        if floor > best.replicas and required > 1:
            text = (
                f"forecast in {ahead:.0f} s: {clause(value, metric, utilization, count)}; the "
                f"scale-up rate limits reach {required} in time only from {floor} now"
            )
            best = Recommendation(floor, DecisionReason.FORECAST_DEMAND, text)
    return best

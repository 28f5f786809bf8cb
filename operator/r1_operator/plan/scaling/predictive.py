"""How many replicas the forecast asks for, and how far it is believed.

Two levels, and the forecast never lowers what real time asks for:

- *short term*: the policy's quantile of the maximum over the lead, the time a replica needs from
  the decision to serving. A replica asked for later would come too late for that peak. The
  quantile holds what is merely likely, so it may fill half of the target's headroom.
- *mid term*: a later peak can still be met later, so it asks for nothing yet, unless the rate
  limits on scaling up would stretch the rise over several periods. Then the rise has to begin
  earlier: each point of the horizon is walked back through the limits to the smallest count from
  which it can still be reached in time, and that is the floor now.

Two things bound what a wrong forecast does. It *vouches* for a fall only while its peak is no lower
than the demand at hand: a peak that lies below the present is an error, or a fall that has begun, and
either way the whole down window is the safer word. While it vouches the window is not waited for, down
to what a plain autoscaler would run (`behavior.stabilize_down`); and a burst that came within three
leads may come again, and what was stopped meanwhile would come too late, so as many replicas stay as
it just filled, without headroom.

And a promise that is not kept is not believed: when it has asked for more than twice the replicas
that demand needs for twice the lead (and the horizon more, where the promise was for later), it is
not heard until it asks for less than that. What it may cost in all is bounded by its allowance
(`allowance.py`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from r1_operator.api.scaling import Activation
from r1_operator.plan.scaling.decision import ForecastNote
from r1_operator.plan.scaling.forecast_budget import SHARE
from r1_operator.plan.scaling.peak_quantile import shortage_ratio
from r1_operator.plan.scaling.policy import MetricTarget, ScalingPolicy
from r1_operator.plan.scaling.rate_limits import earliest_needed
from r1_operator.plan.scaling.reasons import DecisionReason
from r1_operator.plan.scaling.recommendations import (
    Recommendation,
    clause,
    figure,
    metric_value,
    replicas_for,
)
from r1_operator.plan.scaling.scaling_state import LOOK_BACK_SECONDS, ScalingState
from r1_operator.plan.signals.demand import Demand
from r1_operator.plan.signals.forecast import ReceivedForecast, at_level
from r1_operator.plan.unavailable import Unavailable

PROMISE_FACTOR = 2
PROMISE_LEADS = 2.0
RETURN_LEADS = 3.0


@dataclass(frozen=True, slots=True)
class PredictiveRecommendation:
    """What the forecast asks for and may.

    `need` is None while it does not act, `note` None when none was asked for. `vouches` says that no
    more is needed within the lead, `returning` how many replicas stay then for a burst that may come
    again. `promised_since` is since when it has asked for more than twice what demand needs (unix
    seconds; None: it does not).
    """

    need: Recommendation | None = None
    note: ForecastNote | None = None
    vouches: bool = False
    returning: int = 0
    promised_since: float | None = None


def predictive_recommendation(
    policy: ScalingPolicy,
    forecast: ReceivedForecast | Unavailable | None,
    demand: Demand | Unavailable,
    needs: Sequence[Recommendation],
    history: ScalingState,
    now: float,
) -> PredictiveRecommendation:
    """Return what the forecast asks for beside the real-time `needs`."""
    activation = policy.forecast.activation
    if activation is Activation.NEVER or forecast is None:
        return PredictiveRecommendation()
    if isinstance(forecast, Unavailable):
        return _silent(forecast)
    fault = forecast.fault(now)
    if fault is not None:
        return _silent(fault)
    metric = next((m for m in policy.metrics if m.type is forecast.metric), None)
    if metric is None:
        kind = forecast.metric.value
        said = f"The forecast is of {kind}, which the policy does not count."
        return _silent(Unavailable("NoSuchMetric", said))
    peak = at_level(forecast.peak_over_lead, policy.peak_quantile(forecast.lead_seconds))
    soon = _short_term(policy, forecast, metric, peak)
    later = _mid_term(policy, forecast, metric, now)
    need = later if later.replicas > soon.replicas else soon
    if activation is Activation.ADVISORY:
        return _idle(need, f"Advisory only: {need.clause}.")
    if activation is Activation.REQUIRE_BACKTEST and not forecast.gate.acts:
        return _idle(need, f"Not acting ({forecast.gate.reason}): {forecast.gate.message}")
    bound = PROMISE_FACTOR * max((1, *(other.replicas for other in needs)))
    since = _promised_since(need.replicas > bound, bool(needs), history.promised_since, now)
    patience = PROMISE_LEADS * forecast.lead_seconds
    if soon.replicas <= bound:
        patience += policy.forecast.horizon_seconds
    if since is not None and now - since > patience:
        said = f"Not believed: {need.replicas} were not needed within {patience:.0f} s"
        return PredictiveRecommendation(note=ForecastNote(False, need.replicas, f"{said}; {need.clause}."),
                            promised_since=since)  # fmt: skip
    if history.allowance.spent:
        said = f"Paused: the policy has run {SHARE:.0%} more than a plain autoscaler would"
        return PredictiveRecommendation(note=ForecastNote(False, need.replicas, f"{said}; {need.clause}."),
                            promised_since=since)  # fmt: skip
    present = demand if isinstance(demand, Unavailable) else metric_value(metric.type, demand)
    vouches = not isinstance(present, Unavailable) and peak >= present
    span = return_span(policy, forecast.lead_seconds)
    return PredictiveRecommendation(
        need,
        ForecastNote(True, need.replicas, f"{forecast.model}: {need.clause}."),
        vouches=vouches,
        returning=history.most_filled(now, span) if vouches else 0,
        promised_since=since,
    )


def return_span(policy: ScalingPolicy, lead_seconds: float) -> float:
    """Return for how long (seconds) what a burst just filled stays while a forecast vouches.

    Not at all beside a window that the user made shorter than half of the lead: that stands alone.
    """
    if policy.down.stabilization_window_seconds <= lead_seconds / 2:
        return 0.0
    return min(RETURN_LEADS * lead_seconds, LOOK_BACK_SECONDS)


def _silent(why: Unavailable) -> PredictiveRecommendation:
    return PredictiveRecommendation(note=ForecastNote(False, None, why.message, why))


def _idle(need: Recommendation, message: str) -> PredictiveRecommendation:
    return PredictiveRecommendation(note=ForecastNote(False, need.replicas, message))


def _promised_since(
    promises: bool, demand_known: bool, before: float | None, now: float
) -> float | None:
    # Without real time there is nothing to hold the promise against: the clock starts anew.
    if not promises or not demand_known:
        return None
    return now if before is None else before


def _short_term(
    policy: ScalingPolicy, forecast: ReceivedForecast, metric: MetricTarget, peak: float
) -> Recommendation:
    utilization = policy.peak_utilization
    count = replicas_for(peak, metric, utilization)
    text = (
        f"up to {clause(peak, metric, utilization, count)}, expected within "
        f"{forecast.lead_seconds:.0f} s ({_quantile_clause(policy, forecast.lead_seconds)})"
    )
    # A service that may sleep is not woken for less than one request: that one wakes it.
    if policy.min_replicas == 0 and peak * forecast.lead_seconds < 1:
        return Recommendation(
            0, DecisionReason.FORECAST_DEMAND, f"no request is expected ({figure(peak)}/s)"
        )
    return Recommendation(count, DecisionReason.FORECAST_DEMAND, text)


def _quantile_clause(policy: ScalingPolicy, lead_seconds: float) -> str:
    text = f"{policy.peak_quantile(lead_seconds):.0%} quantile"
    if policy.forecast.quantile is not None:
        return text
    ratio = shortage_ratio(lead_seconds, policy.waste_seconds(lead_seconds))
    return f"{text}: one too few is {ratio:.0f} times as dear as one too many"


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
        required = min(count, policy.highest)
        floor = earliest_needed(required, limits, math.floor(slack / period))
        if floor > best.replicas and required > 1:
            text = (
                f"{clause(value, metric, utilization, count)} in {ahead:.0f} s, and to rise to {required} "
                f"within the rate limits has to begin from {floor} now"
            )
            best = Recommendation(floor, DecisionReason.FORECAST_DEMAND, text)
    return best

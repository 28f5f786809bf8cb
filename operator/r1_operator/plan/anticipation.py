"""How many replicas the forecast asks for.

Two levels, and the forecast may only ever raise what real time asks for:

- *short term*: the policy's quantile of the maximum over the lead, the time a replica needs from
  the decision to serving. A replica asked for later would come too late for that peak.
- *mid term*: a later peak can still be met later, so it asks for nothing yet, unless the rate
  limits on scaling up would stretch the rise over several periods. Then the rise has to begin
  earlier: each point of the horizon is walked back through the limits to the smallest count from
  which it can still be reached in time, and that is the floor now.

Keeping replicas through a dip between two peaks is left to the down policy: a replica stopped
for longer than it takes to start one is cheaper stopped.
"""

import math

from r1_operator.api.scaling import Activation
from r1_operator.plan.decision import ForecastNote, Reason
from r1_operator.plan.forecasts import Forecast, at_level
from r1_operator.plan.limits import earliest_needed
from r1_operator.plan.needs import Need, clause, figure, replicas_for
from r1_operator.plan.policy import Metric, ScalingPolicy
from r1_operator.plan.unavailable import Unavailable


def forecast_need(
    policy: ScalingPolicy, forecast: Forecast | Unavailable | None, now: float
) -> tuple[Need | None, ForecastNote | None]:
    """Return what the forecast asks for when it may act, and the note that says what it did.

    None and None when the policy never asks for a forecast.
    """
    activation = policy.forecast.activation
    if activation is Activation.NEVER or forecast is None:
        return None, None
    if isinstance(forecast, Unavailable):
        return None, _silent(forecast)
    fault = forecast.fault(now)
    if fault is not None:
        return None, _silent(fault)
    metric = next((m for m in policy.metrics if m.type is forecast.metric), None)
    if metric is None:
        return None, _silent(
            Unavailable(
                "NoSuchMetric",
                f"The forecast is of {forecast.metric.value}, which the policy does not count.",
            )
        )
    need = max(
        (_short_term(policy, forecast, metric), _mid_term(policy, forecast, metric, now)),
        key=lambda candidate: candidate.replicas,
    )
    if activation is Activation.ADVISORY:
        return None, ForecastNote(False, need.replicas, f"Advisory only: {need.clause}.")
    if activation is Activation.REQUIRE_BACKTEST and not forecast.gate.acts:
        message = f"Not acting ({forecast.gate.reason}): {forecast.gate.message}"
        return None, ForecastNote(False, need.replicas, message)
    return need, ForecastNote(True, need.replicas, f"{forecast.model}: {need.clause}.")


def _silent(why: Unavailable) -> ForecastNote:
    return ForecastNote(False, None, why.message, why)


def _short_term(policy: ScalingPolicy, forecast: Forecast, metric: Metric) -> Need:
    peak = at_level(forecast.peak_over_lead, policy.forecast.quantile)
    text = (
        f"up to {clause(peak, metric, policy)}, expected within {forecast.lead_seconds:.0f} s "
        f"({policy.forecast.quantile:.0%} quantile)"
    )
    # A service that may sleep is not woken for less than one request: that one wakes it.
    if policy.min_replicas == 0 and peak * forecast.lead_seconds < 1:
        return Need(0, Reason.FORECAST_DEMAND, f"no request is expected ({figure(peak)}/s)")
    return Need(replicas_for(peak, metric, policy), Reason.FORECAST_DEMAND, text)


def _mid_term(policy: ScalingPolicy, forecast: Forecast, metric: Metric, now: float) -> Need:
    limits = policy.up.limits
    best = Need(0, Reason.FORECAST_DEMAND, "")
    if not limits:
        return best
    period = max(limit.period_seconds for limit in limits)
    for point in forecast.points:
        ahead = point.at - now
        slack = ahead - forecast.lead_seconds
        if slack < 0 or ahead > policy.forecast.horizon_seconds:
            continue
        value = at_level(point.quantiles, policy.forecast.quantile)
        required = min(replicas_for(value, metric, policy), policy.max_replicas)
        floor = earliest_needed(required, limits, math.floor(slack / period))
        if floor > best.replicas and required > 1:
            text = (
                f"{clause(value, metric, policy)} in {ahead:.0f} s, and to rise to {required} "
                f"within the rate limits has to begin from {floor} now"
            )
            best = Need(floor, Reason.FORECAST_DEMAND, text)
    return best

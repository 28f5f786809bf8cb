"""The value of a published forecast: current demand, raised to the forecast peak.

An HPA or a KEDA trigger divides the value by its target. The value is never below the last
observation, so a forecast can only add replicas. Without an observation there is an error, and the
autoscaler keeps its replicas.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from r1_common.contracts.forecast_request import ActivationRule
from r1_common.contracts.forecast_response import ForecastResponse, NoForecast, shown_level
from r1_forecasting.unavailable import ForecastUnavailable, UnavailableReason


@dataclass(frozen=True, slots=True)
class PublishedValue:
    """A value in the unit of the query, with its reason."""

    value: float
    observed_at: float
    reason: str
    message: str


def published_value(
    response: ForecastResponse, level: float, activation: ActivationRule
) -> PublishedValue | ForecastUnavailable:
    """max(last observed, calibrated peak over the lead time at ``level`` while the gate is open).

    With too little history for a forecast the value is the newest observation.
    """
    if isinstance(response, NoForecast):
        why = ForecastUnavailable(UnavailableReason(response.reason), response.message)
        latest = response.last_observed
        if why.reason is UnavailableReason.TOO_LITTLE_HISTORY and latest is not None:
            return _checked(latest.value, latest.at, str(why.reason), why.message)
        return why
    observed_at, observed = response.last_observed.at, response.last_observed.value
    peak = response.peak_over_lead.get(shown_level(level))
    if peak is None:
        return ForecastUnavailable(
            UnavailableReason.FAILED, f"the forecast has no quantile {level:g}"
        )
    gate = response.gate
    if activation is ActivationRule.ADVISORY:
        message = f"the peak of {peak:g} is not used: activation is Advisory"
        return _checked(observed, observed_at, str(activation), message)
    if activation is ActivationRule.ALWAYS or gate.open:
        reason = str(activation if activation is ActivationRule.ALWAYS else gate.reason)
        message = f"last observed {observed:g}, peak over the lead time {peak:g}"
        return _checked(max(observed, peak), observed_at, reason, message)
    return _checked(observed, observed_at, gate.reason, gate.message)


def _checked(
    value: float, at: float, reason: str, message: str
) -> PublishedValue | ForecastUnavailable:
    if not math.isfinite(value):
        return ForecastUnavailable(
            UnavailableReason.FAILED, f"the value is {value}, which is not finite"
        )
    return PublishedValue(float(value), at, reason, message)

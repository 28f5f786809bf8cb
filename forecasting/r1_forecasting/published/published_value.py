"""The one number an autoscaler sees: real time, raised by a forecast that has earned it.

A plain HPA or KEDA trigger divides this number by its target. It never lies below what was last
observed, so a forecast can only bring replicas earlier; and where there is no observation there
is no number: the autoscaler is told so and holds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from r1_forecasting.request import ActivationRule
from r1_forecasting.unavailable import ForecastUnavailable, UnavailableReason


@dataclass(frozen=True, slots=True)
class PublishedValue:
    """What an autoscaler is shown, in the unit of the query, and why."""

    value: float
    observed_at: float
    reason: str
    message: str


def published_value(
    answer: Mapping[str, Any],
    level: float,
    activation: ActivationRule,
) -> PublishedValue | ForecastUnavailable:
    """max(last observed, calibrated peak over the lead at ``level`` while it may act).

    ``answer`` is that of ``POST /v1/forecast``; the newest observation stands alone while there is
    too little history to forecast from.
    """
    if answer["state"] != "Ready":
        why = ForecastUnavailable(UnavailableReason(answer["reason"]), str(answer["message"]))
        latest = answer.get("lastObserved")
        if why.reason is UnavailableReason.TOO_LITTLE_HISTORY and latest is not None:
            return _checked(latest["value"], latest["at"], str(why.reason), why.message)
        return why
    observed_at, observed = answer["lastObserved"]["at"], answer["lastObserved"]["value"]
    peak = answer["peakOverLead"][f"{level:g}"]
    gate = answer["gate"]
    if activation is ActivationRule.ADVISORY:
        said = f"the peak of {peak:g} is advice only"
        return _checked(observed, observed_at, str(activation), said)
    if activation is ActivationRule.ALWAYS or gate["open"]:
        reason = str(activation if activation is ActivationRule.ALWAYS else gate["reason"])
        said = f"last observed {observed:g}, peak over the lead {peak:g}"
        return _checked(max(observed, peak), observed_at, reason, said)
    return _checked(observed, observed_at, gate["reason"], gate["message"])


def _checked(
    value: float, at: float, reason: str, message: str
) -> PublishedValue | ForecastUnavailable:
    if not math.isfinite(value):
        return ForecastUnavailable(UnavailableReason.FAILED, f"the value came out as {value}")
    return PublishedValue(float(value), at, reason, message)

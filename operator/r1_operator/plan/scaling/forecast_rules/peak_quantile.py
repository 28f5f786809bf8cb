"""Quantile of the predicted peak that replicas are planned for (newsvendor model).

The best stock for an uncertain demand is its quantile at `short / (short + spare)`, the cost of one unit
too few over the sum with the cost of one too many (the newsvendor's critical ratio). Both costs are times
here. A missing replica is missing for the lead time. A needless replica is paid for until it stops. One
second of a missing replica costs as much as five seconds of an idle one.

A needless replica is assumed to stay for half of the lead time, so the quantile is 91 %. It is higher
where the policy's scale-down window is shorter than that.
"""

SHORTAGE_PRICE = 5.0
LOWEST, HIGHEST = 0.5, 0.99


def shortage_ratio(lead_seconds: float, window_seconds: float) -> float:
    """Return the cost of one missing replica over the cost of one idle replica.

    `lead_seconds`: from request to serving; `window_seconds`: until a needless replica stops.
    """
    return SHORTAGE_PRICE * max(lead_seconds, 1.0) / max(window_seconds, 1.0)


def waste_seconds(window_seconds: float, lead_seconds: float) -> float:
    """Return the seconds that a needless replica is assumed to stay.

    Half of the lead time, or the scale-down window where that is shorter.
    """
    return min(window_seconds, lead_seconds / 2)


def peak_quantile(given: float | None, lead_seconds: float, window_seconds: float) -> float:
    """Return the quantile of the peak to plan replicas for, as a share, in whole percent.

    `given`: the user's quantile, used as it is.
    """
    if given is not None:
        return given
    ratio = shortage_ratio(lead_seconds, window_seconds)
    return min(max(round(ratio / (1 + ratio), 2), LOWEST), HIGHEST)

"""Which quantile of the coming peak replicas are made for: the newsvendor's.

Whoever stocks for an uncertain demand does best with its quantile at
`short / (short + spare)`, what one too few costs against one too many (the newsvendor's critical
ratio). Both are times here. A replica that was not asked for is missed until one that is asked
for then serves: the lead. A replica that was not needed is paid until it is let go. A second in which
one is missed is priced at five in which one idles.

Waste is reckoned with half of the lead, so the quantile is 91 %; it is higher where the policy's own
window is shorter than that, since waste is then soon undone.
"""

SHORTAGE_PRICE = 5.0
LOWEST, HIGHEST = 0.5, 0.99


def shortage_ratio(lead_seconds: float, window_seconds: float) -> float:
    """Return how many times dearer one replica too few is than one too many.

    `lead_seconds` until a replica asked for serves, `window_seconds` until a needless one goes.
    """
    return SHORTAGE_PRICE * max(lead_seconds, 1.0) / max(window_seconds, 1.0)


def waste_seconds(window_seconds: float, lead_seconds: float) -> float:
    """Return how long a replica that a forecast asked for needlessly is reckoned to stay.

    Half of the lead, or the policy's own window where that is shorter.
    """
    return min(window_seconds, lead_seconds / 2)


def peak_quantile(given: float | None, lead_seconds: float, window_seconds: float) -> float:
    """Return the quantile of the peak to make replicas for, as a share, in whole percent.

    `given` is the user's own, which stands.
    """
    if given is not None:
        return given
    ratio = shortage_ratio(lead_seconds, window_seconds)
    return min(max(round(ratio / (1 + ratio), 2), LOWEST), HIGHEST)

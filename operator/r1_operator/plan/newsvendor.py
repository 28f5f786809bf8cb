"""Which quantile of the coming peak replicas are made for: the newsvendor's.

Whoever stocks for an uncertain demand does best with its quantile at
`short / (short + spare)`, what one too few costs against one too many (the newsvendor's critical
ratio). Both are times here. A replica that was not asked for is missed until one that is asked
for then serves: the lead. A replica that was not needed is paid until the down window lets go of
it. A second in which one is missed is priced at five in which one idles.

While a forecast vouches waste is reckoned with half of the lead, so the quantile is 91 %; it is
higher where the policy's own window is shorter than that, since waste is then soon undone.
"""

SHORTAGE_PRICE = 5.0
LOWEST, HIGHEST = 0.5, 0.99
STEADY_SECONDS = 75.0
"""The minute that rates are means of and a look of an HPA: a shorter window forgets within them."""


def shortage_ratio(lead_seconds: float, window_seconds: float) -> float:
    """Return how many times dearer one replica too few is than one too many.

    `lead_seconds` until a replica asked for serves, `window_seconds` until a needless one goes.
    """
    return SHORTAGE_PRICE * max(lead_seconds, 1.0) / max(window_seconds, 1.0)


def waste_seconds(window_seconds: float, lead_seconds: float) -> float:
    """Return how long a needless replica is reckoned to stay while a forecast vouches.

    Half of the lead, or the policy's own window where that is shorter.
    """
    return min(window_seconds, lead_seconds / 2)


def vouched_window(window_seconds: float, lead_seconds: float) -> float:
    """Return the down window while a forecast vouches, from the policy's own.

    Half of the lead: the peak over the lead is in the need already, and the window only keeps a
    forecast that wavers from minute to minute from stopping what it would start again. A lead of
    up to `STEADY_SECONDS` counts whole, and that much of a longer one.
    """
    return min(window_seconds, max(lead_seconds / 2, min(lead_seconds, STEADY_SECONDS)))


def peak_quantile(given: float | None, lead_seconds: float, window_seconds: float) -> float:
    """Return the quantile of the peak to make replicas for, as a share, in whole percent.

    `given` is the user's own, which stands.
    """
    if given is not None:
        return given
    ratio = shortage_ratio(lead_seconds, window_seconds)
    return min(max(round(ratio / (1 + ratio), 2), LOWEST), HIGHEST)

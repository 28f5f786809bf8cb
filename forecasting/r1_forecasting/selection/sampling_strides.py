"""Sampling strides that do not align with periods of the load.

Load has periods of its own: jobs on the hour, buckets of ten minutes. Samples every ten minutes
always meet the same phase of them, so the result is valid for that phase alone.
"""

from __future__ import annotations

from math import gcd


def stride_from(least: int, season: int) -> int:
    """Return the smallest stride of at least ``least`` that does not align with the season.

    It is a prime that does not divide ``season`` (steps); 1 stays 1.
    """
    if least <= 1:
        return 1
    candidate = least
    while any(candidate % d == 0 for d in range(2, int(candidate**0.5) + 1)) or (
        season % candidate == 0 and season >= candidate
    ):
        candidate += 1
    return candidate


def stride_near(target: int, season: int) -> int:
    """Return the stride nearest to ``target`` that shares no factor with a season (steps).

    Of two equally near strides it is the smaller one.
    """
    offs = range(max(target, 1))
    near = (s for off in offs for s in (target - off, target + off) if gcd(s, season) == 1)
    return next(near, 1)

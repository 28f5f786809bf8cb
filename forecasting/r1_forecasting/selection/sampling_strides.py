"""How far apart the moments lie that are looked at, so that none falls into step with the load.

Load has clocks of its own: jobs on the hour, buckets of ten minutes. A look every ten minutes sees
always the same place of them, and what it learns holds for that place alone.
"""

from __future__ import annotations

from math import gcd


def stride_from(least: int, season: int) -> int:
    """Return the smallest stride from ``least`` on that keeps no step with a season.

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


def stride_near(wished: int, season: int) -> int:
    """Return the stride nearest to ``wished`` that shares no factor with a season (steps).

    Of two as near it is the denser one.
    """
    offs = range(max(wished, 1))
    near = (s for off in offs for s in (wished - off, wished + off) if gcd(s, season) == 1)
    return next(near, 1)

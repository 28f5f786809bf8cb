"""Start-up times drawn from a published distribution.

Model loads of a public GPU serving cluster: 50 % within 22.7 s, 90 % within 42 s, 99 % within 52 s,
none above 79 s. The distribution is scaled so that its 90 % quantile is the requested start-up time,
because the operator learns that quantile as lead time.
"""

from __future__ import annotations

import math

import numpy as np

from r1_evaluation.traces.scenario import STEP_SECONDS

_SHARES = (0.0, 0.5, 0.9, 0.99, 1.0)
_SECONDS = (10.0, 22.7, 42.0, 52.0, 79.0)
_DRAWS = 200


def start_steps(start_seconds: float) -> list[int]:
    """Return start-up times in steps, rounded up, at evenly spaced quantiles."""
    shares = (np.arange(_DRAWS) + 0.5) / _DRAWS
    seconds = np.interp(shares, _SHARES, _SECONDS) * start_seconds / 42.0
    return [max(1, math.ceil(value / STEP_SECONDS)) for value in seconds.tolist()]

"""Start-up times as they are drawn: the shape of a distribution measured in public.

Model loads of a public GPU serving cluster (the project's forecasting study): half within 22.7 s,
90 % within 42 s, 99 % within 52 s, none above 79 s. The shape is scaled so that its 90 % quantile
is the start-up time asked for, since that is the lead the operator learns.
"""

from __future__ import annotations

import math

import numpy as np

from r1_evaluation.traces.scenario import STEP_SECONDS

_SHARES = (0.0, 0.5, 0.9, 0.99, 1.0)
_SECONDS = (10.0, 22.7, 42.0, 52.0, 79.0)
_DRAWS = 200


def start_steps(start_seconds: float) -> list[int]:
    """Return start-up times in steps, rounded up, evenly spread over the distribution."""
    shares = (np.arange(_DRAWS) + 0.5) / _DRAWS
    seconds = np.interp(shares, _SHARES, _SECONDS) * start_seconds / 42.0
    return [max(1, math.ceil(value / STEP_SECONDS)) for value in seconds.tolist()]

"""Maxima and means over moving windows of steps."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from r1_evaluation.traces.scenario import Floats, Ints


def running_max(values: Ints | Floats, steps: int) -> Ints | Floats:
    """Return the maximum of the last `steps` values, the present one among them."""
    if steps <= 1:
        return values
    padded = np.concatenate([np.full(steps - 1, values[0]), values])
    highest: Ints | Floats = sliding_window_view(padded, steps).max(axis=1)
    return highest


def coming_max(values: Floats, steps: int) -> Floats:
    """Return the maximum of the present value and the `steps` that follow."""
    backwards = running_max(values[::-1], steps + 1)[::-1]
    return np.asarray(backwards, dtype=np.float64)


def trailing_mean(values: Floats, steps: int) -> Floats:
    """Return the mean of the last `steps` values, of fewer at the beginning."""
    summed = np.concatenate([[0.0], np.cumsum(values)])
    step = np.arange(len(values))
    first = np.maximum(step + 1 - steps, 0)
    means: Floats = (summed[step + 1] - summed[first]) / (step + 1 - first)
    return means

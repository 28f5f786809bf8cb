"""A regular time series of demand, built from irregular samples.

The grid is anchored at multiples of the step in Unix time, so a refresh, a daylight-saving change
and a corrected clock do not shift it. Samples are sorted, the last of two with the same time is
used, and samples in the future are dropped. A step without a usable sample is NaN, never 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from r1_forecasting.arrays import FloatArray
from r1_forecasting.unavailable import ForecastUnavailable, UnavailableReason


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """Values at ``start + i * step`` seconds; NaN marks a gap; values are never negative."""

    start: float
    step: float
    values: FloatArray

    def __post_init__(self) -> None:
        if not self.step > 0:
            raise ValueError(f"step is {self.step}, needs to be above zero")
        if self.values.ndim != 1:
            raise ValueError("values need one dimension")

    def __len__(self) -> int:
        return len(self.values)

    @property
    def end(self) -> float:
        """Time of the last grid point, a gap or not."""
        return self.time(len(self.values) - 1)

    @property
    def observed(self) -> int:
        """Number of grid points with an observation."""
        return int(np.count_nonzero(~np.isnan(self.values)))

    def time(self, index: int) -> float:
        return self.start + index * self.step

    def index(self, time: float) -> int:
        """The last grid position at or before ``time`` (may lie outside the series)."""
        if time == -np.inf:
            return -1
        return int(np.floor((time - self.start) / self.step + 1e-6))

    def last(self) -> tuple[float, float] | None:
        """Time and value of the newest observation."""
        observed = np.flatnonzero(~np.isnan(self.values))
        if len(observed) == 0:
            return None
        return self.time(int(observed[-1])), float(self.values[observed[-1]])

    def head(self, length: int) -> Series:
        """The first ``length`` grid points."""
        return Series(self.start, self.step, self.values[: max(length, 0)])

    def tail(self, length: int) -> Series:
        """The last ``length`` grid points."""
        first = max(len(self.values) - length, 0)
        return Series(self.time(first), self.step, self.values[first:])

    def forward_filled(self, limit: int) -> FloatArray:
        """Values with every gap of up to ``limit`` steps filled by the observation before it."""
        position = np.arange(len(self.values))
        observed = np.where(np.isnan(self.values), -1, position)
        newest = np.maximum.accumulate(observed) if len(observed) else observed
        usable = (newest >= 0) & (position - newest <= limit)
        return np.where(usable, self.values[np.maximum(newest, 0)], np.nan)


def from_samples(
    samples: Iterable[tuple[float, float]], step: float, *, until: float
) -> Series | ForecastUnavailable:
    """Put samples (time s, value) on the grid of ``step`` seconds: the mean of each step.

    A sample belongs to the grid point at or before it. NaN, infinite and negative values
    and samples after ``until`` are dropped. The series ends at its last observation.
    """
    table = np.array(list(samples), dtype=np.float64).reshape(-1, 2)
    received = len(table)
    usable = np.isfinite(table).all(axis=1) & (table[:, 1] >= 0) & (table[:, 0] <= until + 1e-6)
    table = table[usable]
    if len(table) == 0:
        message = f"all {received} samples are NaN, infinite, negative or in the future"
        return ForecastUnavailable(
            UnavailableReason.NO_DATA, message if received else "the query returned no samples"
        )
    table = table[np.argsort(table[:, 0], kind="stable")]
    last_of_each = np.append(np.diff(table[:, 0]) > 0, True)
    table = table[last_of_each]
    slot = np.floor(table[:, 0] / step + 1e-6).astype(np.int64)
    first = int(slot[0])
    length = int(slot[-1]) - first + 1
    total = np.bincount(slot - first, weights=table[:, 1], minlength=length)
    count = np.bincount(slot - first, minlength=length)
    values = np.full(length, np.nan)
    np.divide(total, count, out=values, where=count > 0)
    return Series(first * step, step, values)


def merge(old: Series, new: Series, length: int) -> Series:
    """Overwrite ``old`` with the observations of ``new``; return the newest ``length`` steps."""
    if not np.isclose(old.step, new.step):
        raise ValueError(f"steps differ: {old.step} and {new.step}")
    begin, end = min(old.start, new.start), max(old.end, new.end)
    count = round((end - begin) / old.step) + 1
    if count > 4 * length:  # so far apart that the old part would be trimmed anyway
        return new.tail(length)
    values = np.full(count, np.nan)
    for part in (old, new):
        offset = round((part.start - begin) / old.step)
        window = values[offset : offset + len(part)]
        np.copyto(window, part.values, where=~np.isnan(part.values))
    return Series(begin, old.step, values).tail(length)


def resample(series: Series, factor: int) -> Series:
    """Means over ``factor`` steps; a block with less than half its steps observed is a gap."""
    if factor < 1:
        raise ValueError("factor needs to be at least 1")
    usable = len(series) // factor * factor
    block = series.values[len(series) - usable :].reshape(-1, factor)
    observed = ~np.isnan(block)
    count = observed.sum(axis=1)
    total = np.where(observed, block, 0.0).sum(axis=1)
    mean = np.where(count * 2 >= factor, total / np.maximum(count, 1), np.nan)
    return Series(series.time(len(series) - usable), series.step * factor, mean)


def rates(samples: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Rates per second between successive readings of a counter.

    A value below its predecessor is a counter reset, so the value itself is the increase, as in
    Prometheus' ``rate``. Invalid values are skipped; two values at one time, or a clock that was
    set back, give no rate.
    """
    result: list[tuple[float, float]] = []
    before: tuple[float, float] | None = None
    for time, value in samples:
        if not (np.isfinite(time) and np.isfinite(value) and value >= 0):
            continue
        if before is not None and time > before[0]:
            increase = value - before[1] if value >= before[1] else value
            result.append((time, increase / (time - before[0])))
        before = (time, value)
    return result

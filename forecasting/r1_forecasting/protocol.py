"""What a forecaster is, and how it says that it has nothing to say.

``fit`` is slow and may need torch or Prophet; what it returns holds numbers only, can be
sent between processes, and predicts in milliseconds with numpy alone. A fitted forecaster
predicts *at origins*: position ``o`` of a series means "standing right after observation
``o``, knowing nothing later". The backtest and the live service call the very same method,
with many origins or with one, so what was scored is what acts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from r1_common.contracts.unavailable import Unavailable

if TYPE_CHECKING:
    from r1_forecasting.series.series import Series

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


class UnavailableReason(StrEnum):
    """Why there is no forecast (the ``reason`` of an unavailable answer)."""

    TRAINING = "Training"
    TOO_LITTLE_HISTORY = "TooLittleHistory"
    PROMETHEUS_UNREACHABLE = "PrometheusUnreachable"
    NO_DATA = "NoData"
    PARTIAL_DATA = "PartialData"
    """Prometheus reported that a part of the data is missing from its response."""
    FAILED = "Failed"
    UNREACHABLE = "Unreachable"
    """The shard that keeps the subject is silent. The operator's own word for a forecaster that is:
    it goes on with the last answer while that holds."""


@dataclass(frozen=True, slots=True)
class ForecastUnavailable(Unavailable):
    """A missing forecast, with one of the forecaster's reasons: never a zero, never an exception."""

    reason: UnavailableReason


@dataclass(frozen=True, slots=True)
class SeriesShape:
    """What is asked of a forecaster, counted in steps of the series.

    ``season`` may be fractional (a season need not be a whole number of steps);
    ``weekly`` allows a second season of seven, where there are fourteen to learn it from.
    """

    season: float
    lead: int
    horizon: int
    weekly: bool = False

    def __post_init__(self) -> None:
        if not self.season >= 2:
            raise ValueError(f"season is {self.season} steps long, needs at least 2")
        if self.lead < 1 or self.horizon < 1:
            raise ValueError("lead and horizon need at least one step")


def too_short(steps: int, shape: SeriesShape, seasons: int) -> ForecastUnavailable | None:
    """Say that a history of so many steps holds fewer than the seasons a model needs."""
    known = steps / shape.season
    if known >= seasons:
        return None
    message = f"{known:.1f} seasons of history, needs {seasons}"
    return ForecastUnavailable(UnavailableReason.TOO_LITTLE_HISTORY, message)


class Fitted(Protocol):
    """A trained forecaster: plain numbers, picklable, no I/O, no torch."""

    @property
    def name(self) -> str: ...

    @property
    def trained_until(self) -> float:
        """Time (s) of the last observation seen in training; -inf when none was needed.

        Predictions at origins up to here are in-sample and are never scored.
        """
        ...

    def predict(
        self, series: Series, origins: IntArray, horizons: IntArray, levels: Sequence[float]
    ) -> FloatArray:
        """Quantiles of demand ``horizons`` steps after each origin.

        Shape (origins, horizons, levels), in the series' unit; NaN where this model cannot
        say (a gap, no earlier season). Depends on nothing after the origin.
        """
        ...

    def peak(
        self, series: Series, origins: IntArray, steps: int, levels: Sequence[float]
    ) -> FloatArray:
        """Quantiles of the maximum over the next ``steps``; shape (origins, levels)."""
        ...


class Forecaster(Protocol):
    """A way to learn from a series."""

    @property
    def name(self) -> str: ...

    def fit(self, series: Series, shape: SeriesShape) -> Fitted | ForecastUnavailable:
        """Learn; too little or unusable history is an ``Unavailable``, not an error."""
        ...

"""One fit of a learned model, and the setup of the worker process that runs it."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass

from r1_forecasting.models.protocol import Fitted
from r1_forecasting.models.registry import learned, training_part
from r1_forecasting.series.series import Series
from r1_forecasting.series.shape import SeriesShape
from r1_forecasting.unavailable import ForecastUnavailable, UnavailableReason


@dataclass(frozen=True, slots=True)
class FitOutcome:
    """Result of one fit, its wall time and its CPU time."""

    model: str
    result: Fitted | ForecastUnavailable
    seconds: float
    cpu_seconds: float


def fit_one(name: str, series: Series, shape: SeriesShape) -> FitOutcome:
    """Fit the learned model ``name``; a failure inside the fit becomes `ForecastUnavailable`."""
    started, spent = time.monotonic(), _cpu_seconds()
    forecaster = next(f for f in learned() if f.name == name)
    try:
        result = forecaster.fit(training_part(series, shape), shape)
    except Exception as error:  # noqa: BLE001 - a third-party fit may raise anything
        result = ForecastUnavailable(
            UnavailableReason.FAILED, f"{name}: {type(error).__name__}: {error}"[:300]
        )
    return FitOutcome(name, result, time.monotonic() - started, _cpu_seconds() - spent)


def _cpu_seconds() -> float:
    """CPU time of this process and of its children that have exited, such as Prophet's solver."""
    return sum(os.times()[:4])


def set_up_worker(parent: int) -> None:
    """Set the lowest priority and one thread; exit when the parent exits, even if it is killed."""
    os.nice(15)
    os.environ["OMP_NUM_THREADS"] = "1"

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()

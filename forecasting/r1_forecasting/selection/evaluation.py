"""The models at hand, their backtest, and what follows: made in one go, used for a while."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from r1_forecasting.models.protocol import Fitted
from r1_forecasting.models.registry import fit_quick
from r1_forecasting.request import ForecastRequest
from r1_forecasting.selection.backtest import ModelScorecard, score
from r1_forecasting.selection.gate import LAST_VALUE, Gate, decide
from r1_forecasting.selection.mixture import MIXTURE, mixture_of
from r1_forecasting.selection.point_calibration import PointCalibration, calibrate_points
from r1_forecasting.series.series import Series


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """What was found for ``request`` on a series that ended at ``until``."""

    request: ForecastRequest
    fitted: Mapping[str, Fitted]
    scorecard: ModelScorecard
    gate: Gate
    points: Mapping[str, PointCalibration]
    until: float
    seconds: float

    def answers(self, request: ForecastRequest) -> bool:
        """Whether it holds the quantiles asked for (the lead may still differ by steps)."""
        mine = self.request
        return (mine.levels, mine.decision_level) == (request.levels, request.decision_level)

    def aged(self, request: ForecastRequest, until: float) -> bool:
        """Whether to judge again: another lead or horizon, or enough new outcomes.

        Never more than a twentieth of the time goes into it.
        """
        if self.request.shape != request.shape:
            return True
        return until - self.until >= max(request.season / 48, request.step, 20 * self.seconds)


def evaluate(
    series: Series,
    request: ForecastRequest,
    learned: Mapping[str, Fitted],
    incumbent: str | None,
) -> Evaluation:
    """Fit the quick models, score all, decide: pure but for the stopwatch."""
    started = time.monotonic()
    shape = request.shape
    fitted: dict[str, Fitted] = {**fit_quick(series, shape), **learned}
    result = score(series, fitted, shape, request.levels, decision_level=request.decision_level)
    if result.weights:
        fitted[MIXTURE] = mixture_of(fitted, result.weights)
    gate = decide(result.costs(), incumbent=incumbent)
    points = {
        name: calibrate_points(series, fitted[name], result) for name in {gate.model, LAST_VALUE}
    }
    seconds = time.monotonic() - started
    return Evaluation(request, fitted, result.scorecard(), gate, points, series.end, seconds)

"""Evaluation of a series: fitted models, backtest, gate and point corrections."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from r1_common.contracts.forecast_request import ForecastRequest
from r1_forecasting.models.protocol import Fitted
from r1_forecasting.models.registry import fit_quick
from r1_forecasting.selection.backtest import ModelScorecard, score
from r1_forecasting.selection.gate import LAST_VALUE, Gate, decide
from r1_forecasting.selection.mixture import MIXTURE, mixture_of
from r1_forecasting.selection.point_calibration import PointCalibration, calibrate_points
from r1_forecasting.series.series import Series
from r1_forecasting.series.shape import shape_of


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """Result for ``request`` on a series that ended at ``until``."""

    request: ForecastRequest
    fitted: Mapping[str, Fitted]
    scorecard: ModelScorecard
    gate: Gate
    points: Mapping[str, PointCalibration]
    until: float
    seconds: float

    def answers(self, request: ForecastRequest) -> bool:
        """Return whether the requested quantiles are evaluated (the lead time may differ)."""
        mine = self.request
        return (mine.levels, mine.decision_level) == (request.levels, request.decision_level)

    def aged(self, request: ForecastRequest, until: float) -> bool:
        """Return whether to evaluate again: another lead time or horizon, or enough new outcomes.

        Evaluations take at most a twentieth of the time.
        """
        if shape_of(self.request) != shape_of(request):
            return True
        return until - self.until >= max(request.season / 48, request.step, 20 * self.seconds)


def evaluate(
    series: Series,
    request: ForecastRequest,
    learned: Mapping[str, Fitted],
    incumbent: str | None,
) -> Evaluation:
    """Fit the quick models, score all models, decide the gate; pure but for the timer."""
    started = time.monotonic()
    shape = shape_of(request)
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

"""Rolling-origin backtest: the forecasts of each model and the cost of the decisions on them.

At every origin a model predicts quantiles of the maximum over the lead time, corrected only by
errors known at that origin; the mixture of the models is scored too. The decision cost is that of
the capacity held: the operator always uses ``max(forecast, now)``, and a shortage costs ``level /
(1 - level)`` times as much as an excess (the newsvendor's pinball cost at the level of scaling
decisions). So models are ranked by their decisions, not by their error.

Origins are a prime number of steps apart that does not divide the season: a round stride would
always sample the same minute of the hour.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from r1_forecasting.arrays import FloatArray, IntArray
from r1_forecasting.calibration import conformal
from r1_forecasting.calibration.root_scale import RootScale
from r1_forecasting.models.baselines.last_value import MAX_FILL_STEPS
from r1_forecasting.models.protocol import Fitted, Forecaster
from r1_forecasting.selection.ensemble import calibrate, window_offset
from r1_forecasting.selection.gate import Gate, decide
from r1_forecasting.selection.mixture import MIXTURE, mix
from r1_forecasting.selection.sampling_strides import stride_from
from r1_forecasting.series.series import Series
from r1_forecasting.series.shape import SeriesShape
from r1_forecasting.series.windows import future_peak
from r1_forecasting.unavailable import ForecastUnavailable

CEILING = 2.0
"""No calibrated quantile exceeds this multiple of the highest demand so far."""


@dataclass(frozen=True, slots=True, eq=False)
class ModelBacktest:
    """One model over all origins; NaN without a value, in-sample, or before calibration."""

    raw: FloatArray  # (origins, levels) of the peak, before correction
    issued: FloatArray  # (origins, levels) after correction
    cost: FloatArray  # (origins,)
    offsets: FloatArray  # (levels,) the current correction


@dataclass(frozen=True, slots=True, eq=False)
class ModelScorecard:
    """Current corrections, coverage and saving of a backtest, in a hundredth of its memory."""

    levels: tuple[float, ...]
    shape: SeriesShape
    scale: RootScale
    offsets: Mapping[str, FloatArray]
    """Current correction (levels,) by model."""
    coverage: Mapping[str, Mapping[float, float]]
    """Share of scored peaks at or below the quantile, by model and level; NaN without any."""
    potential_saving: float
    """Decision cost of the last value as a share of the scored peaks: the saving of a perfect model.

    0 where the last value made no error or nothing was scored.
    """


@dataclass(frozen=True, slots=True, eq=False)
class BacktestResult:
    """Result of a backtest."""

    levels: tuple[float, ...]
    decision_level: float
    shape: SeriesShape
    scale: RootScale
    origins: IntArray
    actual: FloatArray
    models: Mapping[str, ModelBacktest]
    failures: Mapping[str, ForecastUnavailable] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    """Current weights of the mixture's members."""

    def costs(self) -> dict[str, FloatArray]:
        """Decision cost (origins,) of each model."""
        return {name: model_backtest.cost for name, model_backtest in self.models.items()}

    def coverage(self, name: str) -> dict[float, float]:
        """Share of scored peaks at or below each issued quantile; NaN without any."""
        issued = self.models[name].issued
        known = ~np.isnan(self.actual) & ~np.isnan(issued).any(axis=1)
        if not known.any():
            return dict.fromkeys(self.levels, float("nan"))
        covered = self.actual[known, None] <= issued[known] + 1e-12
        return dict(zip(self.levels, covered.mean(axis=0).tolist(), strict=True))

    def scorecard(self) -> ModelScorecard:
        """The current state without the scores of each origin."""
        base = self.models["last-value"].cost
        known = ~np.isnan(base)
        total_peak = float(self.actual[known].sum())
        return ModelScorecard(
            self.levels,
            self.shape,
            self.scale,
            {name: model_backtest.offsets.copy() for name, model_backtest in self.models.items()},
            {name: self.coverage(name) for name in self.models},
            float(base[known].sum()) / total_peak if total_peak > 0 else 0.0,
        )

    def gated_cost(self, *, every: int = 5) -> float:
        """Cost of the gate's decisions in the past, relative to the last value.

        The gate decides at every ``every``-th origin, on outcomes known at that origin.
        1.0 where nothing was scored.
        """
        base = self.models["last-value"].cost
        known_until = np.searchsorted(self.origins, self.origins - self.shape.lead, side="right")
        total = reference = 0.0
        gate: Gate | None = None
        for i in range(len(self.origins)):
            if np.isnan(base[i]):
                continue
            if gate is None or i % every == 0:
                past = {name: cost[: known_until[i]] for name, cost in self.costs().items()}
                gate = decide(past, incumbent=gate.model if gate else None)
            spent = self.models[gate.model].cost[i]
            total += base[i] if np.isnan(spent) else spent
            reference += base[i]
        return total / reference if reference > 0 else 1.0


def choose_origins(length: int, season: float, most: int) -> IntArray:
    """Origins over the later part of a series: from one season on, or from its middle."""
    first = min(int(np.ceil(season)), length // 2)
    stride = stride_from(-(-(length - first) // most), round(season))
    return np.arange(length - 1, first - 1, -stride, dtype=np.int64)[::-1].copy()


def score(
    series: Series,
    fitted: Mapping[str, Fitted],
    shape: SeriesShape,
    levels: Sequence[float],
    *,
    decision_level: float,
    max_origins: int = 600,
) -> BacktestResult:
    """Score fitted models (the last value must be among them) on their out-of-sample origins.

    ``levels`` ascend and hold ``decision_level``; at least two observations are needed.
    """
    ordered = tuple(levels)
    if list(ordered) != sorted(set(ordered)) or decision_level not in ordered:
        raise ValueError("levels need to ascend and to hold the decision level")
    origins = choose_origins(len(series), shape.season, max_origins)
    actual = future_peak(series.values, origins, shape.lead)
    now = series.forward_filled(MAX_FILL_STEPS)[origins]
    scale = RootScale.of(series.head(int(origins[0]) + 1))
    highest = np.fmax.accumulate(series.values)[origins]
    raw_quantiles: dict[str, FloatArray] = {}
    for name, model in fitted.items():
        raw_quantiles[name] = model.peak(series, origins, shape.lead, ordered)
        raw_quantiles[name][origins <= series.index(model.trained_until)] = np.nan
    weights: Mapping[str, float] = {}
    if len(raw_quantiles) > 1:
        raw_quantiles[MIXTURE], weights = mix(
            raw_quantiles, actual, origins, shape.lead, shape.season, ordered
        )
    models = {}
    for name, raw in raw_quantiles.items():
        offsets = calibrate(
            raw, actual, origins, shape.lead, season=shape.season, levels=ordered, scale=scale
        )
        issued = conformal.corrected(raw, offsets, scale, CEILING * highest[:, None])
        capacity = np.fmax(issued[:, ordered.index(decision_level)], now)
        capacity[np.isnan(issued).any(axis=1)] = np.nan
        cost = decision_cost(capacity, actual, decision_level)
        models[name] = ModelBacktest(raw, issued, cost, offsets[-1])
    return BacktestResult(
        ordered, decision_level, shape, scale, origins, actual, models, {}, weights
    )


def decision_cost(capacity: FloatArray, actual: FloatArray, level: float) -> FloatArray:
    """Pinball cost of ``capacity`` at a peak of ``actual``."""
    short = actual - capacity
    return np.maximum(level * short, (level - 1.0) * short)


def run(
    series: Series,
    forecasters: Sequence[Forecaster],
    shape: SeriesShape,
    *,
    levels: Sequence[float] = (0.5, 0.9, 0.95),
    decision_level: float = 0.9,
    train_share: float = 0.7,
    max_origins: int = 600,
) -> BacktestResult:
    """Fit every forecaster on the first ``train_share`` of the series and score the rest.

    Models that could not be fitted are in ``failures``; the last value is always scored.
    """
    from r1_forecasting.models.baselines.last_value import LastValue

    training = series.head(int(len(series) * train_share))
    fitted: dict[str, Fitted] = {"last-value": LastValue()}
    failures: dict[str, ForecastUnavailable] = {}
    for forecaster in forecasters:
        outcome = forecaster.fit(training, shape)
        if isinstance(outcome, ForecastUnavailable):
            failures[forecaster.name] = outcome
        else:
            fitted[forecaster.name] = outcome
    result = score(
        series, fitted, shape, levels, decision_level=decision_level, max_origins=max_origins
    )
    return replace(result, failures=failures)


def point_offsets(
    series: Series,
    model: Fitted,
    backtest: BacktestResult,
    horizons: IntArray,
) -> FloatArray:
    """Corrections (horizons, levels) for the values themselves, from the same origins."""
    raw = model.predict(series, backtest.origins, horizons, backtest.levels)
    raw[backtest.origins <= series.index(model.trained_until)] = np.nan
    offsets = np.full((len(horizons), len(backtest.levels)), np.nan)
    for i, h in enumerate(horizons.tolist()):
        at = backtest.origins + h
        actual = np.where(at < len(series), series.values[np.minimum(at, len(series) - 1)], np.nan)
        errors = conformal.scores(raw[:, i], actual, backtest.scale)
        offsets[i] = window_offset(
            errors, backtest.origins, h, backtest.shape.season, backtest.levels
        )
    return offsets

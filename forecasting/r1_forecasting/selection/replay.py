"""Replay of the live forecaster over a window of history.

For every position of the tested window: the calibrated quantiles of the maximum over the lead time,
by the model of the gate at that position, and whether the gate was open. Models are fitted on the
history before ``test_from`` and again every few seasons. Fits, corrections and the gate use only
what was known at the position.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from r1_forecasting.arrays import BoolArray, FloatArray, IntArray
from r1_forecasting.calibration.root_scale import RootScale
from r1_forecasting.models.baselines.damped_trend import DampedTrend
from r1_forecasting.models.baselines.last_value import MAX_FILL_STEPS
from r1_forecasting.models.baselines.minute_of_hour import MinuteOfHour
from r1_forecasting.models.baselines.seasonal_level import SeasonalLevel
from r1_forecasting.models.baselines.seasonal_naive import SeasonalNaive
from r1_forecasting.models.boosted_trees.gbdt import Gbdt
from r1_forecasting.models.neural.lstm import Lstm
from r1_forecasting.models.protocol import Forecaster
from r1_forecasting.models.target import Target
from r1_forecasting.selection.backtest import CEILING, decision_cost
from r1_forecasting.selection.ensemble import issue_all
from r1_forecasting.selection.gate import LAST_VALUE, Gate, decide
from r1_forecasting.selection.rolling import refits, rolling_quantiles
from r1_forecasting.series.series import Series
from r1_forecasting.series.shape import SeriesShape

WARM_SEASONS = 4.0
"""Seasons before the tested window for the warm-up of corrections and gate."""
DECISIONS_PER_SEASON = 48
GATE_SEASONS = 4.0
"""Seasons of costs that the gate uses; older ones may precede a change of the traffic."""


@dataclass(frozen=True, slots=True, eq=False)
class Replay:
    """Forecasts of the replay at each position of the tested window."""

    origins: IntArray  # (n,) every position from test_from to the last
    peaks: FloatArray  # (n, levels) quantiles of the maximum over the lead; NaN: unavailable
    gate_open: BoolArray  # (n,) whether the gate was open


def default_models(shape: SeriesShape) -> tuple[Forecaster, ...]:
    """Default models of a replay: all but Prophet, which is slow."""
    peak = (Target(shape.lead, peak=True),)
    return (SeasonalNaive(), DampedTrend(), SeasonalLevel(), MinuteOfHour(), Gbdt(peak), Lstm())


def replay_peaks(
    series: Series,
    shape: SeriesShape,
    *,
    test_from: int,
    levels: Sequence[float],
    decision_level: float = 0.9,
    models: Sequence[Forecaster] | None = None,
) -> Replay:
    """Replay ``series`` from position ``test_from`` to its end.

    ``levels`` ascend and hold ``decision_level``; raises ValueError otherwise, or when
    ``test_from`` lies outside the series. Too little history is not an error: peaks are
    NaN and the gate is closed.
    """
    ordered = tuple(levels)
    if list(ordered) != sorted(set(ordered)) or decision_level not in ordered:
        raise ValueError("levels need to ascend and to hold the decision level")
    if not 0 < test_from < len(series):
        raise ValueError(f"test_from is {test_from}, needs to lie from 1 to {len(series) - 1}")
    chosen = default_models(shape) if models is None else tuple(models)
    target = Target(shape.lead, peak=True)
    warm_from = max(test_from // 2, test_from - round(WARM_SEASONS * shape.season))
    origins = np.arange(warm_from, len(series), dtype=np.int64)
    fits = refits(len(series), shape.season, warm_from=warm_from, test_from=test_from)
    raw = rolling_quantiles(series, chosen, shape, (target,), origins, ordered, fits)[target]
    actual = target.outcome(series, origins)
    now = series.forward_filled(MAX_FILL_STEPS)[origins]
    issued = issue_all(
        raw,
        actual,
        origins,
        shape.lead,
        season=shape.season,
        levels=ordered,
        scale=RootScale.of(series.head(warm_from)),
        ceiling=CEILING * np.fmax.accumulate(series.values)[origins],
    )
    costs: dict[str, FloatArray] = {}
    for name, quantiles in issued.items():
        capacity = np.fmax(quantiles[:, ordered.index(decision_level)], now)
        capacity[np.isnan(quantiles).any(axis=1)] = np.nan
        costs[name] = decision_cost(capacity, actual, decision_level)
    peaks, gate_open = _gated(issued, costs, origins, shape)
    tested = origins >= test_from
    return Replay(origins[tested], peaks[tested], gate_open[tested])


def _gated(
    issued: dict[str, FloatArray],
    costs: dict[str, FloatArray],
    origins: IntArray,
    shape: SeriesShape,
) -> tuple[FloatArray, BoolArray]:
    """Peaks of the gate's model; the gate decides `DECISIONS_PER_SEASON` times a season."""
    known_until = np.searchsorted(origins, origins - shape.lead, side="right")
    every = max(1, round(shape.season / DECISIONS_PER_SEASON))
    gate_window = round(GATE_SEASONS * shape.season)
    peaks = issued[LAST_VALUE].copy()
    gate_open = np.zeros(len(origins), dtype=np.bool_)
    gate: Gate | None = None
    for first in range(0, len(origins), every):
        until = int(known_until[first])
        past = {name: cost[max(until - gate_window, 0) : until] for name, cost in costs.items()}
        gate = decide(past, incumbent=gate.model if gate else None)
        rows = slice(first, first + every)
        quantiles = issued[gate.model][rows]
        has_values = ~np.isnan(quantiles).any(axis=1)
        peaks[rows][has_values] = quantiles[has_values]
        gate_open[rows] = gate.open & has_values
    return peaks, gate_open

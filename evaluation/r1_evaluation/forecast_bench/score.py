"""Scores of every forecaster on one series: rolling origin, no look-ahead, calibrated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from r1_evaluation.forecast_bench.series import (
    DAY,
    WARM_DAYS,
    WARM_DAYS_FAR,
    Window,
    steps_of,
    window_of,
)
from r1_forecasting.arrays import BoolArray, FloatArray
from r1_forecasting.calibration.root_scale import RootScale
from r1_forecasting.models.baselines.damped_trend import DampedTrend
from r1_forecasting.models.baselines.minute_of_hour import MinuteOfHour
from r1_forecasting.models.baselines.seasonal_level import SeasonalLevel
from r1_forecasting.models.baselines.seasonal_naive import SeasonalNaive
from r1_forecasting.models.boosted_trees.gbdt import Gbdt
from r1_forecasting.models.neural.lstm import Lstm
from r1_forecasting.models.prophet import ProphetForecaster
from r1_forecasting.models.protocol import Forecaster
from r1_forecasting.models.seasonal_drift import A_WEEK_AGO, SeasonalDrift
from r1_forecasting.models.target import Target
from r1_forecasting.selection.backtest import CEILING
from r1_forecasting.selection.ensemble import issue_all
from r1_forecasting.selection.gate import LAST_VALUE
from r1_forecasting.selection.mixture import MIXTURE
from r1_forecasting.selection.rolling import refits, rolling_quantiles
from r1_forecasting.series.series import Series
from r1_forecasting.series.shape import SeriesShape

LEVELS = (0.5, 0.9, 0.95)
OURS = "ours"
SEASONAL_NAIVE = "seasonal-naive"
SEASONAL_MEDIAN, SEASONAL_DRIFT, WEEKLY_DRIFT = "seasonal-median", "seasonal-drift", "weekly-drift"
SHORT_MODELS = ("damped-trend", "seasonal-level", "minute-of-hour", "lightgbm", "lstm")
LONG_MODELS = (SEASONAL_MEDIAN, SEASONAL_DRIFT, WEEKLY_DRIFT, "lightgbm")
OPTIONAL = ("prophet",)
MODELS = tuple(dict.fromkeys([*SHORT_MODELS, *LONG_MODELS, *OPTIONAL]))
FEWEST_SCORED = 30

Figures = dict[str, float | None]


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """One horizon: figures by model, and what was said at the scored origins."""

    figures: Mapping[str, Figures]
    times: FloatArray  # (n,) seconds of the forecast value
    actual: FloatArray  # (n,)
    issued: Mapping[str, FloatArray]  # (n, levels) each


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """All horizons that could be scored, and notes on what was left out or rounded."""

    horizons: Mapping[str, Scored]
    notes: tuple[str, ...]


def score_series(series: Series, models: Sequence[str], progress: Callable[[str], None]) -> Scores:
    """Score ``models`` (names of ``MODELS``), the baseline and their mixture as ``ours``.

    Raises TooShort where the trace allows no horizon at all.
    """
    steps, notes = steps_of(series)
    season = DAY / series.step
    near = {name: k for name, k in steps.items() if k < season / 2}
    far = {name: k for name, k in steps.items() if k >= season / 2}
    horizons: dict[str, Scored] = {}
    for group, long in ((near, False), (far, True)):
        if not group:
            continue
        window = window_of(series, WARM_DAYS_FAR if long else WARM_DAYS)
        targets = tuple(Target(k, peak=False) for k in sorted(set(group.values())))
        chosen = _forecasters([m for m in models if m in _offered(long)], targets)
        raw = _rolled(series, window, targets, chosen, progress)
        for name, k in group.items():
            target = Target(k, peak=False)
            found = _scored(series, window, target, raw[target], long=long)
            if found is None:
                notes.append(f"{name} is left out: fewer than {FEWEST_SCORED} origins to score")
            else:
                horizons[name] = found
    return Scores(horizons, tuple(notes))


def _offered(long: bool) -> tuple[str, ...]:
    return (*(LONG_MODELS if long else SHORT_MODELS), *OPTIONAL)


def _forecasters(names: Sequence[str], targets: Sequence[Target]) -> list[Forecaster]:
    known: dict[str, Forecaster] = {
        "damped-trend": DampedTrend(),
        "seasonal-level": SeasonalLevel(),
        "minute-of-hour": MinuteOfHour(),
        "lightgbm": Gbdt(tuple(targets)),
        "lstm": Lstm(),
        SEASONAL_MEDIAN: SeasonalNaive(name=SEASONAL_MEDIAN),
        SEASONAL_DRIFT: SeasonalDrift(),
        WEEKLY_DRIFT: SeasonalDrift(A_WEEK_AGO, WEEKLY_DRIFT),
        "prophet": ProphetForecaster(),
    }
    return [known[name] for name in names]


def _rolled(
    series: Series,
    window: Window,
    targets: Sequence[Target],
    models: Sequence[Forecaster],
    progress: Callable[[str], None],
) -> Mapping[Target, dict[str, FloatArray]]:
    season = DAY / series.step
    furthest = max(target.steps for target in targets)
    shape = SeriesShape(
        season, lead=1 if furthest >= season / 2 else furthest, horizon=furthest, weekly=True
    )
    fits = refits(len(series), season, warm_from=window.warm_from, test_from=window.test_from)
    return rolling_quantiles(
        series, models, shape, targets, window.origins, LEVELS, fits, progress=progress
    )


def _scored(
    series: Series, window: Window, target: Target, raw: Mapping[str, FloatArray], *, long: bool
) -> Scored | None:
    """None with fewer than ``FEWEST_SCORED`` origins at which ours and the baseline speak."""
    origins = window.origins
    actual = target.outcome(series, origins)
    issued = issue_all(
        raw,
        actual,
        origins,
        target.steps,
        season=DAY / series.step,
        levels=LEVELS,
        scale=RootScale.of(series.head(window.warm_from)),
        ceiling=CEILING * np.fmax.accumulate(series.values)[origins],
        keep_median=True,
    )
    named = {_shown(name, long): rows for name, rows in issued.items()}
    baseline = named[SEASONAL_NAIVE if long else LAST_VALUE]
    spoken = ~np.isnan(named[OURS]).any(axis=1) & ~np.isnan(baseline).any(axis=1)
    rows = np.isin(origins, window.scored) & ~np.isnan(actual) & spoken
    if int(rows.sum()) < FEWEST_SCORED:
        return None
    figures = {
        name: _figures(said[rows], actual[rows], baseline[rows]) for name, said in named.items()
    }
    ahead = np.asarray(origins[rows] + target.steps, dtype=np.float64)
    times = series.start + ahead * series.step
    return Scored(figures, times, actual[rows], {name: said[rows] for name, said in named.items()})


def _shown(name: str, long: bool) -> str:
    """A day ahead in a season of a day the last value *is* the seasonal naive."""
    if name == MIXTURE:
        return OURS
    return SEASONAL_NAIVE if long and name == LAST_VALUE else name


def _figures(said: FloatArray, actual: FloatArray, baseline: FloatArray) -> Figures:
    """Figures over the origins at which the model spoke; None without any."""
    spoke: BoolArray = ~np.asarray(np.isnan(said).any(axis=1))
    if not spoke.any():
        return dict.fromkeys(("mae_rel", "wape", "coverage90", "coverage95", "pinball90"))
    said, actual, baseline = said[spoke], actual[spoke], baseline[spoke]
    missed = float(np.abs(actual - said[:, 0]).sum())
    theirs = float(np.abs(actual - baseline[:, 0]).sum())
    demand = float(actual.sum())
    short = actual - said[:, 1]
    pinball = float(np.maximum(LEVELS[1] * short, (LEVELS[1] - 1) * short).sum())
    return {
        "mae_rel": missed / theirs if theirs > 0 else None,
        "wape": missed / demand if demand > 0 else None,
        "coverage90": float((actual <= said[:, 1]).mean()),
        "coverage95": float((actual <= said[:, 2]).mean()),
        "pinball90": pinball / demand if demand > 0 else None,
    }

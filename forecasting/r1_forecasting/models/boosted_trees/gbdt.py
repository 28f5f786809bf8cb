"""Gradient-boosted trees with quantile loss: LightGBM, one forest per target and level.

Trees learn the change from the present on the root scale, in units of its standard deviation. Rows
are weighted by their level, so that an error counts in units of demand. Two levels are trained, the
median and the 0.9; other levels are extrapolated from their distance and then calibrated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from r1_forecasting.arrays import BoolArray, FloatArray, IntArray
from r1_forecasting.calibration.root_scale import RootScale
from r1_forecasting.models.boosted_trees.gbdt_inputs import PrefixSums, build_features
from r1_forecasting.models.boosted_trees.trees import Forest, forest_of
from r1_forecasting.models.protocol import Fitted
from r1_forecasting.models.target import Target
from r1_forecasting.series.series import Series
from r1_forecasting.series.shape import SeriesShape, too_short
from r1_forecasting.unavailable import ForecastUnavailable, UnavailableReason

TRAINED_LEVELS = (0.5, 0.9)
MIN_ROWS = 200
VALIDATION_SEASONS = (True, False, True, False)
"""Of four seasons in turn, the ones used as validation set for the number of trees."""
TREES_PER_STEP = 20


@dataclass(frozen=True, slots=True, eq=False)
class FittedGbdt:
    """Forests by target, one for each level of ``TRAINED_LEVELS``, and their scaling."""

    forests: Mapping[Target, tuple[Forest, ...]]
    units: Mapping[Target, float]
    scale: RootScale
    season: float
    trained_until: float
    name: str = "lightgbm"

    def predict(
        self, series: Series, origins: IntArray, horizons: IntArray, levels: Sequence[float]
    ) -> FloatArray:
        trained = sorted(target.steps for target in self.forests if not target.peak)
        return self._interpolated(series, origins, horizons, levels, trained, peak=False)

    def peak(
        self, series: Series, origins: IntArray, steps: int, levels: Sequence[float]
    ) -> FloatArray:
        trained = sorted(target.steps for target in self.forests if target.peak)
        wanted = np.array([steps], dtype=np.int64)
        return self._interpolated(series, origins, wanted, levels, trained, peak=True)[:, 0]

    def _interpolated(
        self,
        series: Series,
        origins: IntArray,
        horizons: IntArray,
        levels: Sequence[float],
        trained: Sequence[int],
        *,
        peak: bool,
    ) -> FloatArray:
        """Interpolate between trained horizons on a log scale, from the present at horizon 0."""
        past = PrefixSums.of(series, self.scale, self.season)
        now = past.at(origins)
        if not trained:
            return np.full((len(origins), len(horizons), len(levels)), np.nan)
        changes = np.stack(
            [self._change(past, origins, Target(k, peak), levels) for k in trained], 1
        )
        grid = np.log1p(np.array([0, *trained]))
        changes = np.concatenate([np.zeros_like(changes[:, :1]), changes], axis=1)
        place = np.log1p(horizons)
        right = np.clip(np.searchsorted(grid, place), 1, len(grid) - 1)
        share = np.clip((place - grid[right - 1]) / (grid[right] - grid[right - 1]), 0.0, 1.0)
        low, high = changes[:, right - 1], changes[:, right]
        change = low + (high - low) * share[None, :, None]
        return self.scale.back(now[:, None, None] + change)

    def _change(
        self, past: PrefixSums, origins: IntArray, target: Target, levels: Sequence[float]
    ) -> FloatArray:
        """(origins, levels) on the root scale."""
        _, features = build_features(past, origins, target.steps)
        middle, high = (forest.predict(features) for forest in self.forests[target])
        spread = np.maximum(high - middle, 0.0)
        normal = NormalDist()
        share = np.array(
            [normal.inv_cdf(level) / normal.inv_cdf(TRAINED_LEVELS[1]) for level in levels]
        )
        changes: FloatArray = self.units[target] * (middle[:, None] + spread[:, None] * share)
        return changes


@dataclass(frozen=True, slots=True)
class Gbdt:
    """At most ``most_rows`` origins of the history, ``trees`` small trees a forest.

    ``targets`` None trains the next step, the horizon, its middle, and the peak over the lead time
    of the requested shape.
    """

    targets: tuple[Target, ...] | None = None
    trees: int = 300
    leaves: int = 7
    rate: float = 0.03
    max_rows: int = 8000
    name: str = "lightgbm"

    def fit(self, series: Series, shape: SeriesShape) -> Fitted | ForecastUnavailable:
        short = too_short(len(series), shape, 2)
        if short is not None:
            return short
        scale = RootScale.of(series)
        past = PrefixSums.of(series, scale, shape.season)
        first = min(round(shape.season), len(series) // 3)
        origins = np.arange(first, len(series) - 1, dtype=np.int64)
        forests: dict[Target, tuple[Forest, ...]] = {}
        units: dict[Target, float] = {}
        for target in self.targets or _default_targets(shape):
            found = self._grow(series, past, scale, origins, target)
            if isinstance(found, ForecastUnavailable):
                return found
            forests[target], units[target] = found
        return FittedGbdt(forests, units, scale, shape.season, series.end)

    def _grow(
        self, series: Series, past: PrefixSums, scale: RootScale, origins: IntArray, target: Target
    ) -> tuple[tuple[Forest, ...], float] | ForecastUnavailable:
        outcome = scale.to(target.outcome(series, origins))
        change = outcome - past.at(origins)
        usable = np.flatnonzero(~np.isnan(change))
        if len(usable) < MIN_ROWS:
            return ForecastUnavailable(
                UnavailableReason.TOO_LITTLE_HISTORY,
                f"{len(usable)} origins with an outcome, needs {MIN_ROWS}",
            )
        if len(usable) > self.max_rows:
            usable = usable[np.linspace(0, len(usable) - 1, self.max_rows).astype(np.int64)]
        now, features = build_features(past, origins[usable], target.steps)
        change = change[usable]
        unit = float(change.std())
        if not unit > 1e-9:
            return ForecastUnavailable(
                UnavailableReason.NO_DATA, "demand is constant: there is nothing to train on"
            )
        weight = now / now.mean()
        block = (origins[usable] // max(past.season, 1.0)).astype(np.int64) % len(
            VALIDATION_SEASONS
        )
        forests = []
        for level in TRAINED_LEVELS:
            count = _best_tree_count(
                features, change / unit, weight, block, self._options(level), self.trees
            )
            all_rows = np.ones(len(usable), dtype=np.bool_)
            booster = _train(features, change / unit, weight, all_rows, self._options(level), count)
            forests.append(forest_of(booster.dump_model()))
        return tuple(forests), unit

    def _options(self, level: float) -> dict[str, object]:
        return {
            "objective": "quantile",
            "alpha": level,
            "learning_rate": self.rate,
            "num_leaves": self.leaves,
            "min_data_in_leaf": 30,
            "feature_fraction": 0.7,
            "bagging_fraction": 0.8,
            "bagging_freq": 1,
            "lambda_l2": 1.0,
            "num_threads": 1,
            "deterministic": True,
            "force_row_wise": True,
            "seed": 0,
            "verbose": -1,
        }


def _train(
    features: FloatArray,
    change: FloatArray,
    weight: FloatArray,
    rows: BoolArray,
    options: dict[str, object],
    trees: int,
) -> Any:
    import lightgbm

    data = lightgbm.Dataset(features[rows], label=change[rows], weight=weight[rows])
    return lightgbm.train(options, data, trees)


def _best_tree_count(
    features: FloatArray,
    change: FloatArray,
    weight: FloatArray,
    block: IntArray,
    options: dict[str, object],
    most: int,
) -> int:
    """Return the number of trees with the least loss on whole validation seasons.

    With little to learn the number is small and the forest is close to the last value. Validation
    seasons alternate over the history, so that one anomalous day has less influence.
    """
    level = float(str(options["alpha"]))
    counts = range(TREES_PER_STEP, most + 1, TREES_PER_STEP)
    cost = np.zeros(len(counts))
    for season, used in enumerate(VALIDATION_SEASONS):
        validation = block == season
        if not used or not validation.any() or validation.all():
            continue
        booster = _train(features, change, weight, ~validation, options, most)
        predicted = np.zeros(int(validation.sum()))
        for i, count in enumerate(counts):
            predicted = predicted + booster.predict(
                features[validation],
                start_iteration=count - TREES_PER_STEP,
                num_iteration=TREES_PER_STEP,
            )
            short = change[validation] - predicted
            cost[i] += float(
                (weight[validation] * np.maximum(level * short, (level - 1) * short)).sum()
            )
    return counts[int(np.argmin(cost))]


def _default_targets(shape: SeriesShape) -> tuple[Target, ...]:
    points = sorted({1, max(1, round(shape.horizon**0.5)), shape.horizon})
    return (*(Target(k, peak=False) for k in points), Target(shape.lead, peak=True))

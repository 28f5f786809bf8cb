"""Gradient-boosted trees with quantile loss: LightGBM, one forest for a target and a level.

Trees learn the change from the present on the root scale, in units of its usual size. Rows
weigh as their level, so that an error counts as much as it does in demand, not on the root
scale. Two levels are grown, the median and the 0.9; others follow from how far those two
stand apart, and calibration mends the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from r1_forecasting.arrays import BoolArray, FloatArray, IntArray
from r1_forecasting.calibration.root_scale import RootScale
from r1_forecasting.models.gbdt_inputs import PrefixSums, build_features
from r1_forecasting.models.protocol import Fitted
from r1_forecasting.models.target import Target
from r1_forecasting.models.trees import Forest, forest_of
from r1_forecasting.series.series import Series
from r1_forecasting.series.shape import SeriesShape, too_short
from r1_forecasting.unavailable import ForecastUnavailable, UnavailableReason

GROWN = (0.5, 0.9)
FEWEST_ROWS = 200
QUARTERS = (True, False, True, False)
"""Of four seasons in turn, which are kept back to find out how many trees pay."""
TREES_AT_ONCE = 20


@dataclass(frozen=True, slots=True, eq=False)
class FittedGbdt:
    """Forests by target, one for each level of ``GROWN``, and the scaling they grew under."""

    forests: Mapping[Target, tuple[Forest, ...]]
    units: Mapping[Target, float]
    scale: RootScale
    season: float
    trained_until: float
    name: str = "lightgbm"

    def predict(
        self, series: Series, origins: IntArray, horizons: IntArray, levels: Sequence[float]
    ) -> FloatArray:
        grown = sorted(target.steps for target in self.forests if not target.peak)
        return self._interpolated(series, origins, horizons, levels, grown, peak=False)

    def peak(
        self, series: Series, origins: IntArray, steps: int, levels: Sequence[float]
    ) -> FloatArray:
        grown = sorted(target.steps for target in self.forests if target.peak)
        wanted = np.array([steps], dtype=np.int64)
        return self._interpolated(series, origins, wanted, levels, grown, peak=True)[:, 0]

    def _interpolated(
        self,
        series: Series,
        origins: IntArray,
        horizons: IntArray,
        levels: Sequence[float],
        grown: Sequence[int],
        *,
        peak: bool,
    ) -> FloatArray:
        """Between grown horizons along the logarithm, from the present at horizon 0 on."""
        past = PrefixSums.of(series, self.scale, self.season)
        now = past.at(origins)
        if not grown:
            return np.full((len(origins), len(horizons), len(levels)), np.nan)
        drawn = np.stack([self._change(past, origins, Target(k, peak), levels) for k in grown], 1)
        grid = np.log1p(np.array([0, *grown]))
        drawn = np.concatenate([np.zeros_like(drawn[:, :1]), drawn], axis=1)
        place = np.log1p(horizons)
        right = np.clip(np.searchsorted(grid, place), 1, len(grid) - 1)
        share = np.clip((place - grid[right - 1]) / (grid[right] - grid[right - 1]), 0.0, 1.0)
        low, high = drawn[:, right - 1], drawn[:, right]
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
        share = np.array([normal.inv_cdf(level) / normal.inv_cdf(GROWN[1]) for level in levels])
        changes: FloatArray = self.units[target] * (middle[:, None] + spread[:, None] * share)
        return changes


@dataclass(frozen=True, slots=True)
class Gbdt:
    """At most ``most_rows`` origins of the history, ``trees`` small trees a forest.

    ``targets`` says what to learn; None: the next step, the horizon, its middle, and the peak
    over the lead of the shape that is asked for.
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
        for target in self.targets or _usual(shape):
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
        if len(usable) < FEWEST_ROWS:
            return ForecastUnavailable(
                UnavailableReason.TOO_LITTLE_HISTORY,
                f"{len(usable)} scored origins, needs {FEWEST_ROWS}",
            )
        if len(usable) > self.max_rows:
            usable = usable[np.linspace(0, len(usable) - 1, self.max_rows).astype(np.int64)]
        now, features = build_features(past, origins[usable], target.steps)
        change = change[usable]
        unit = float(change.std())
        if not unit > 1e-9:
            return ForecastUnavailable(
                UnavailableReason.NO_DATA, "demand never changes: there is nothing to learn"
            )
        weight = now / now.mean()
        block = (origins[usable] // max(past.season, 1.0)).astype(np.int64) % len(QUARTERS)
        forests = []
        for level in GROWN:
            count = _enough(
                features, change / unit, weight, block, self._options(level), self.trees
            )
            everything = np.ones(len(usable), dtype=np.bool_)
            booster = _train(
                features, change / unit, weight, everything, self._options(level), count
            )
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


def _enough(
    features: FloatArray,
    change: FloatArray,
    weight: FloatArray,
    block: IntArray,
    options: dict[str, object],
    most: int,
) -> int:
    """How many trees pay on whole seasons that were kept from them.

    Few where there is little to learn: the forest is then next to the last value. Seasons
    are kept back in turns and not only the newest, so that one odd day decides less.
    """
    level = float(str(options["alpha"]))
    counts = range(TREES_AT_ONCE, most + 1, TREES_AT_ONCE)
    cost = np.zeros(len(counts))
    for kept_back, judged in enumerate(QUARTERS):
        judge = block == kept_back
        if not judged or not judge.any() or judge.all():
            continue
        booster = _train(features, change, weight, ~judge, options, most)
        said = np.zeros(int(judge.sum()))
        for i, count in enumerate(counts):
            said = said + booster.predict(
                features[judge], start_iteration=count - TREES_AT_ONCE, num_iteration=TREES_AT_ONCE
            )
            short = change[judge] - said
            cost[i] += float((weight[judge] * np.maximum(level * short, (level - 1) * short)).sum())
    return counts[int(np.argmin(cost))]


def _usual(shape: SeriesShape) -> tuple[Target, ...]:
    points = sorted({1, max(1, round(shape.horizon**0.5)), shape.horizon})
    return (*(Target(k, peak=False) for k in points), Target(shape.lead, peak=True))

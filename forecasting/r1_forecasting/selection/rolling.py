"""Out of sample, over and over: models refitted as time goes by, each asked only ahead."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from r1_forecasting.arrays import FloatArray, IntArray
from r1_forecasting.models.last_value import LastValue
from r1_forecasting.models.protocol import Fitted, Forecaster
from r1_forecasting.models.target import Target
from r1_forecasting.selection.gate import LAST_VALUE
from r1_forecasting.series.series import Series
from r1_forecasting.series.shape import SeriesShape
from r1_forecasting.unavailable import ForecastUnavailable

REFIT_SEASONS = 3.0


def refits(length: int, season: float, *, warm_from: int, test_from: int) -> list[int]:
    """Positions at which models are fitted: ``warm_from``, ``test_from``, and every
    ``REFIT_SEASONS`` seasons from there, each on what lies before it."""
    every = max(1, round(REFIT_SEASONS * season))
    return sorted({warm_from, *range(test_from, length, every)})


def rolling_quantiles(
    series: Series,
    models: Sequence[Forecaster],
    shape: SeriesShape,
    targets: Sequence[Target],
    origins: IntArray,
    levels: Sequence[float],
    fits: Sequence[int],
    *,
    progress: Callable[[str], None] = lambda said: None,
) -> Mapping[Target, dict[str, FloatArray]]:
    """Quantiles (origins, levels) of each model for each target, the last value among them.

    What a model says at an origin comes from the newest of its ``fits`` before it; NaN where
    it could not be fitted or had nothing to say. ``progress`` is told of each fit and of each
    that failed.
    """
    said: dict[Target, dict[str, FloatArray]] = {target: {} for target in targets}
    for number, (first, last) in enumerate(
        zip(fits, [*fits[1:], len(series)], strict=True), start=1
    ):
        block = (origins >= first) & (origins < last)
        training = series.head(first)
        fitted: list[tuple[str, Fitted]] = [(LAST_VALUE, LastValue())]
        for model in models:
            progress(f"fit {number} of {len(fits)}: {model.name}, {targets[-1].steps} steps ahead")
            outcome = model.fit(training, shape)
            if isinstance(outcome, ForecastUnavailable):
                progress(f"{model.name} is left out there: {outcome.message}")
            else:
                fitted.append((model.name, outcome))
        for target in targets:
            for name, fit in fitted:
                rows = said[target].setdefault(name, np.full((len(origins), len(levels)), np.nan))
                rows[block] = target.quantiles(fit, series, origins[block], levels)
    return said

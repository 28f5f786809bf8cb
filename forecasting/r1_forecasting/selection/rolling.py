"""Out-of-sample quantiles of models that are refitted as time passes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from r1_forecasting.arrays import FloatArray, IntArray
from r1_forecasting.models.baselines.last_value import LastValue
from r1_forecasting.models.protocol import Fitted, Forecaster
from r1_forecasting.models.target import Target
from r1_forecasting.selection.gate import LAST_VALUE
from r1_forecasting.series.series import Series
from r1_forecasting.series.shape import SeriesShape
from r1_forecasting.unavailable import ForecastUnavailable

REFIT_SEASONS = 3.0


def refits(length: int, season: float, *, warm_from: int, test_from: int) -> list[int]:
    """Positions of the fits: ``warm_from``, ``test_from``, then every ``REFIT_SEASONS`` seasons.

    Each fit uses the history before its position.
    """
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
    progress: Callable[[str], None] = lambda message: None,
) -> Mapping[Target, dict[str, FloatArray]]:
    """Quantiles (origins, levels) of each model for each target, the last value among them.

    The quantiles at an origin come from the newest of the ``fits`` before it; NaN where the fit
    failed or the model has no value. ``progress`` is called for each fit and each failed fit.
    """
    quantiles: dict[Target, dict[str, FloatArray]] = {target: {} for target in targets}
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
                progress(f"{model.name} is not fitted there: {outcome.message}")
            else:
                fitted.append((model.name, outcome))
        for target in targets:
            for name, fit in fitted:
                rows = quantiles[target].setdefault(
                    name, np.full((len(origins), len(levels)), np.nan)
                )
                rows[block] = target.quantiles(fit, series, origins[block], levels)
    return quantiles

"""List of the models: quick ones, those for a season ahead, and learned ones."""

from __future__ import annotations

from r1_forecasting.models.baselines.damped_trend import DampedTrend
from r1_forecasting.models.baselines.last_value import LastValue
from r1_forecasting.models.baselines.minute_of_hour import MinuteOfHour
from r1_forecasting.models.baselines.seasonal_level import SeasonalLevel
from r1_forecasting.models.baselines.seasonal_naive import SeasonalNaive
from r1_forecasting.models.boosted_trees.gbdt import Gbdt
from r1_forecasting.models.neural.lstm import Lstm
from r1_forecasting.models.prophet import ProphetForecaster
from r1_forecasting.models.protocol import Fitted, Forecaster
from r1_forecasting.models.seasonal_drift import A_WEEK_AGO, SeasonalDrift
from r1_forecasting.series.series import Series
from r1_forecasting.series.shape import SeriesShape
from r1_forecasting.unavailable import ForecastUnavailable

TEST_SHARE = 0.3


def quick() -> tuple[Forecaster, ...]:
    """Models fitted within milliseconds, used for the first request."""
    return (LastValue(), DampedTrend(), SeasonalNaive(), SeasonalLevel(), MinuteOfHour())


def season_ahead() -> tuple[Forecaster, ...]:
    """Quick models for half a season ahead or further, where the present is less informative."""
    return (SeasonalDrift(), SeasonalDrift(A_WEEK_AGO, "weekly-drift"))


def learned() -> tuple[Forecaster, ...]:
    """Models fitted in a worker process within seconds."""
    return (Gbdt(), Lstm(), ProphetForecaster())


def training_part(series: Series, shape: SeriesShape) -> Series:
    """The part of a series that a model is trained on; about the newest third is the test set.

    The test set holds at least one season (and the lead time) where two remain for training,
    because the gate needs a whole season of outcomes. The scored object is the one that forecasts:
    its inputs are fresh at each call, only its weights are older.
    """
    test_steps = max(len(series) * TEST_SHARE, min(shape.season * 1.2, len(series) * 0.5))
    return series.head(len(series) - round(test_steps + shape.lead))


def fit_quick(series: Series, shape: SeriesShape) -> dict[str, Fitted]:
    """Fit the quick models for which the history is long enough; the last value always."""
    training = training_part(series, shape)
    fitted: dict[str, Fitted] = {}
    far = 2 * max(shape.lead, shape.horizon) >= shape.season
    for forecaster in (*quick(), *(season_ahead() if far else ())):
        needs_training = isinstance(forecaster, SeasonalLevel | DampedTrend)
        outcome = forecaster.fit(training if needs_training else series, shape)
        if not isinstance(outcome, ForecastUnavailable):
            fitted[outcome.name] = outcome
    return fitted

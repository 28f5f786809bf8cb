"""Which forecasters there are, and which of them are quick enough to join at once."""

from __future__ import annotations

from r1_forecasting.models.damped_trend import DampedTrend
from r1_forecasting.models.gbdt import Gbdt
from r1_forecasting.models.last_value import LastValue
from r1_forecasting.models.lstm import Lstm
from r1_forecasting.models.minute_of_hour import MinuteOfHour
from r1_forecasting.models.prophet import ProphetForecaster
from r1_forecasting.models.protocol import Fitted, Forecaster
from r1_forecasting.models.seasonal_drift import A_WEEK_AGO, SeasonalDrift
from r1_forecasting.models.seasonal_level import SeasonalLevel
from r1_forecasting.models.seasonal_naive import SeasonalNaive
from r1_forecasting.series.series import Series
from r1_forecasting.series.shape import SeriesShape
from r1_forecasting.unavailable import ForecastUnavailable

TEST_SHARE = 0.3


def quick() -> tuple[Forecaster, ...]:
    """Fitted within milliseconds: they answer the first request."""
    return (LastValue(), DampedTrend(), SeasonalNaive(), SeasonalLevel(), MinuteOfHour())


def season_ahead() -> tuple[Forecaster, ...]:
    """As quick, for what lies half a season ahead or further: there the present says less."""
    return (SeasonalDrift(), SeasonalDrift(A_WEEK_AGO, "weekly-drift"))


def learned() -> tuple[Forecaster, ...]:
    """Fitted in a worker process, in seconds."""
    return (Gbdt(), Lstm(), ProphetForecaster())


def training_part(series: Series, shape: SeriesShape) -> Series:
    """What a model is trained on: the newest third or so is kept back to score it.

    At least one season (and the lead) is kept back where that leaves two to learn from,
    because a gate that has not seen a whole season cannot judge. The very object that was
    scored then acts: its inputs are fresh at each call, only its weights are older.
    """
    back = max(len(series) * TEST_SHARE, min(shape.season * 1.2, len(series) * 0.5))
    return series.head(len(series) - round(back + shape.lead))


def fit_quick(series: Series, shape: SeriesShape) -> dict[str, Fitted]:
    """The quick models that this history allows; the last value always."""
    training = training_part(series, shape)
    found: dict[str, Fitted] = {}
    far = 2 * max(shape.lead, shape.horizon) >= shape.season
    for forecaster in (*quick(), *(season_ahead() if far else ())):
        needs_training = isinstance(forecaster, SeasonalLevel | DampedTrend)
        outcome = forecaster.fit(training if needs_training else series, shape)
        if not isinstance(outcome, ForecastUnavailable):
            found[outcome.name] = outcome
    return found

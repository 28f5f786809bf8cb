"""Model minute-of-hour: recurring bursts are forecast, others are not."""

from __future__ import annotations

import numpy as np
import pytest

from r1_forecasting.models.baselines.minute_of_hour import MinuteOfHour
from r1_forecasting.models.protocol import Fitted
from r1_forecasting.series.series import Series
from r1_forecasting.series.shape import SeriesShape
from r1_forecasting.unavailable import ForecastUnavailable

LEVELS = (0.5, 0.9)
HOUR = 20
CLOCKED = SeriesShape(24 * HOUR, lead=3, horizon=5)


def bursts(days: float, start: float) -> Series:
    """10 a step with noise; from day ``start`` on 30 for two steps at the tenth of each hour."""
    minute = np.arange(round(days * 24 * HOUR))
    there = (minute % HOUR >= 10) & (minute % HOUR < 12) & (minute >= start * 24 * HOUR)
    noise = np.random.default_rng(2).normal(1, 0.03, len(minute))
    return Series(1_700_000_000.0, 60.0, np.where(there, 30.0, 10.0) * noise)


def fitted(series: Series) -> Fitted:
    model = MinuteOfHour().fit(series, CLOCKED)
    assert not isinstance(model, ForecastUnavailable), model.message
    return model


def test_minute_of_hour_follows_bursts_that_began_half_a_day_ago() -> None:
    series = bursts(4, start=3.0)
    model = fitted(series.head(2 * 24 * HOUR))
    before = np.array([3 * 24 * HOUR + 13 * HOUR + 8])  # two minutes before the next
    predicted = model.predict(series, before, np.array([1, 2, 3, 4]), LEVELS)[0, :, 0]
    assert predicted[[0, 3]] == pytest.approx([10, 10], rel=0.2)
    assert predicted[[1, 2]] == pytest.approx([30, 30], rel=0.2)
    assert model.peak(series, before, 3, LEVELS)[0] == pytest.approx([30, 30], rel=0.2)
    assert model.peak(series, before - 6, 3, LEVELS)[0] == pytest.approx([10, 10], rel=0.2)


def test_minute_of_hour_is_the_last_value_without_bursts() -> None:
    rng = np.random.default_rng(4)
    values = rng.normal(10, 0.3, 4 * 24 * HOUR) + 20 * (rng.random(4 * 24 * HOUR) < 0.1)
    series = Series(1_700_000_000.0, 60.0, values)
    model = fitted(series)
    origins = np.arange(3 * 24 * HOUR, 4 * 24 * HOUR - 5)
    predicted = model.predict(series, origins, np.array([3]), LEVELS)[:, 0, 0]
    actual, now = series.values[origins + 3], series.values[origins]
    assert np.abs(predicted - actual).mean() < 1.1 * np.abs(now - actual).mean()


def test_minute_of_hour_is_equal_for_one_origin_and_for_many() -> None:
    series = bursts(4, start=1.0)
    model = fitted(series)
    origins = np.arange(2 * 24 * HOUR, 4 * 24 * HOUR, 7)
    many = model.peak(series, origins, 3, LEVELS)
    alone = [model.peak(series, origins[[i]], 3, LEVELS)[0] for i in range(len(origins))]
    np.testing.assert_allclose(many, alone)


def test_minute_of_hour_is_the_last_value_beyond_an_hour() -> None:
    series = bursts(4, start=1.0)
    model = fitted(series)
    origins = np.array([900, 1200])
    predicted = model.predict(series, origins, np.array([HOUR + 1]), LEVELS)[:, 0, 0]
    np.testing.assert_allclose(predicted, series.values[origins])


def test_an_hour_of_three_steps_has_no_minutes() -> None:
    refused = MinuteOfHour().fit(bursts(6, start=1.0), SeriesShape(48, 3, 5))
    assert isinstance(refused, ForecastUnavailable)
    assert "2.0 steps" in refused.message

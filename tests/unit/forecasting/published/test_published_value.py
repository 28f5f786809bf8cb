"""Published value: never below current demand, an error without data."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1_common.contracts.forecast_request import ActivationRule
from r1_common.contracts.forecast_response import GateState, NoForecast, Observation, ReadyForecast
from r1_forecasting.published.published_value import PublishedValue, published_value
from r1_forecasting.unavailable import ForecastUnavailable, UnavailableReason


def answer(*, open: bool = True, observed: float = 9.0, peak: float = 15.0) -> ReadyForecast:
    return ReadyForecast(
        series_name="shop/orders",
        reason="BeatsBaselines",
        message="lstm costs 0.8",
        issued_at=1000.0,
        valid_until=1060.0,
        model="lstm",
        gate=GateState(open, "BeatsBaselines", "lstm costs 0.8", {}),
        points=(),
        peak_over_lead={0.5: observed, 0.9: peak},
        coverage={},
        last_observed=Observation(1000.0, observed),
    )


def unavailable(reason: UnavailableReason, observed: float | None = None) -> NoForecast:
    last = None if observed is None else Observation(1000.0, observed)
    return NoForecast("shop/orders", str(reason), "cause", last)


def shown(
    given_answer: ReadyForecast, activation: ActivationRule, level: float = 0.9
) -> PublishedValue:
    made = published_value(given_answer, level, activation)
    assert isinstance(made, PublishedValue)
    return made


@pytest.mark.parametrize(
    ("activation", "open", "value"),
    [
        (ActivationRule.REQUIRE_BACKTEST, True, 15.0),
        (ActivationRule.REQUIRE_BACKTEST, False, 9.0),
        (ActivationRule.ALWAYS, True, 15.0),
        (ActivationRule.ALWAYS, False, 15.0),
        (ActivationRule.ADVISORY, True, 9.0),
        (ActivationRule.ADVISORY, False, 9.0),
    ],
)
def test_the_gate_and_the_activation_decide_together(
    activation: ActivationRule, open: bool, value: float
) -> None:
    made = shown(answer(open=open), activation)
    assert made.value == value
    assert made.observed_at == 1000.0
    assert made.reason
    assert made.message


@given(
    observed=st.floats(0, 1e9),
    peak=st.floats(0, 1e9),
    open=st.booleans(),
    activation=st.sampled_from(ActivationRule),
)
def test_forecast_never_lowers_the_value(
    observed: float, peak: float, open: bool, activation: ActivationRule
) -> None:
    made = shown(answer(open=open, observed=observed, peak=peak), activation)
    assert observed <= made.value <= max(observed, peak)


@pytest.mark.parametrize(
    "reason", sorted(set(UnavailableReason) - {UnavailableReason.TOO_LITTLE_HISTORY})
)
def test_no_data_gives_no_value(reason: UnavailableReason) -> None:
    made = published_value(unavailable(reason, observed=9.0), 0.9, ActivationRule.ALWAYS)
    assert made == ForecastUnavailable(reason, "cause")


def test_series_with_little_history_shows_the_current_demand() -> None:
    young = unavailable(UnavailableReason.TOO_LITTLE_HISTORY, observed=9.0)
    made = published_value(young, 0.9, ActivationRule.REQUIRE_BACKTEST)
    assert made == PublishedValue(9.0, 1000.0, "TooLittleHistory", "cause")
    empty = unavailable(UnavailableReason.TOO_LITTLE_HISTORY)
    nothing = published_value(empty, 0.9, ActivationRule.REQUIRE_BACKTEST)
    assert isinstance(nothing, ForecastUnavailable)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_value_that_is_not_finite_is_an_error(bad: float) -> None:
    made = published_value(answer(peak=bad, observed=bad), 0.9, ActivationRule.ALWAYS)
    assert isinstance(made, ForecastUnavailable)


def test_a_forecast_without_the_requested_quantile_is_an_error() -> None:
    made = published_value(answer(), 0.99, ActivationRule.ALWAYS)
    assert isinstance(made, ForecastUnavailable)
    assert "no quantile 0.99" in made.message

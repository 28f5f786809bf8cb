"""Validation of the request body."""

from __future__ import annotations

from typing import Any

import pytest

from r1_common.contracts.forecast_request import InvalidForecastRequest, parse_forecast_request
from r1_forecasting.series.shape import shape_of
from r1_forecasting.service.response import cache_key

GOOD: dict[str, Any] = {
    "series": "default/production-r1",
    "query": "sum(rate(r1_gateway_requests_offered_total[1m]))",
    "stepSeconds": 60,
    "seasonSeconds": 86400,
    "historySeconds": 1209600,
    "leadSeconds": 45,
    "horizonSeconds": 600,
    "levels": [0.5, 0.95, 0.9],
}


def test_example_of_the_contract_is_parsed() -> None:
    request = parse_forecast_request(GOOD)
    assert request.levels == (0.5, 0.9, 0.95)
    assert request.decision_level == 0.9
    assert request.history_steps == 20160
    assert (shape_of(request).season, shape_of(request).lead, shape_of(request).horizon) == (
        1440,
        2,
        10,
    )


def test_time_may_be_compressed() -> None:
    request = parse_forecast_request(
        GOOD | {"stepSeconds": 60 / 14.4, "seasonSeconds": 600, "historySeconds": 7800}
    )
    assert request.step == 4.167
    assert shape_of(request).season == pytest.approx(144, abs=0.1)


def test_lead_change_within_a_step_keeps_the_cache_key() -> None:
    assert cache_key(parse_forecast_request(GOOD)) == cache_key(
        parse_forecast_request(GOOD | {"leadSeconds": 46.5})
    )
    assert cache_key(parse_forecast_request(GOOD)) != cache_key(
        parse_forecast_request(GOOD | {"leadSeconds": 61})
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("activation", "Never"),
        ("classQueries", ["Q1"]),
        ("classQueries", {"Q1": ""}),
        ("classQueries", {"Q 1": "up"}),
        ("series", None),
        ("series", " "),
        ("series", 7),
        ("series", "half a letter: \ud800"),
        ("query", ""),
        ("query", "half a letter: \ud800"),
        ("query", "x" * 20_000),
        ("stepSeconds", 0),
        ("stepSeconds", -5),
        ("stepSeconds", "60"),
        ("stepSeconds", True),
        ("stepSeconds", float("nan")),
        ("seasonSeconds", 60),
        ("historySeconds", float("inf")),
        ("historySeconds", 10**8),
        ("leadSeconds", -1),
        ("leadSeconds", 10**7),
        ("horizonSeconds", 10**7),
        ("levels", []),
        ("levels", 0.9),
        ("levels", [0.5, "0.9"]),
        ("levels", [0.0]),
        ("levels", [1.0]),
        ("levels", [float("nan")]),
        ("levels", [0.5] * 17),
        ("decisionLevel", 0.7),
        ("decisionLevel", "0.9"),
        ("weekly", "yes"),
    ],
)
def test_a_bad_field_is_named(field: str, value: object) -> None:
    with pytest.raises(InvalidForecastRequest, match=f"^{field}"):
        parse_forecast_request(GOOD | {field: value})


def test_a_field_of_a_later_release_is_ignored() -> None:
    assert parse_forecast_request(GOOD | {"later": 1}) == parse_forecast_request(GOOD)


@pytest.mark.parametrize("body", [None, [], "x", 3])
def test_a_body_that_is_no_object_is_refused(body: object) -> None:
    with pytest.raises(InvalidForecastRequest, match="body"):
        parse_forecast_request(body)


def test_activation_and_class_queries_do_not_change_the_cache_key() -> None:
    parsed = parse_forecast_request(
        GOOD | {"activation": "Always", "classQueries": {"Q2": "b", "Q1": "a"}}
    )
    assert cache_key(parsed) == cache_key(parse_forecast_request(GOOD))
    assert parsed.activation == "Always"
    assert parsed.class_queries == (("Q1", "a"), ("Q2", "b"))

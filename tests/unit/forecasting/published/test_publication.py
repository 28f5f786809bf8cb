"""Published forecasts: parsed entries, and errors that name entry, field and fix."""

from __future__ import annotations

import json
from typing import Any

import pytest

from r1_common.contracts.forecast_request import ActivationRule, InvalidForecastRequest
from r1_forecasting.published.catalogue import EMPTY, parse_catalogue
from r1_forecasting.published.publication import InferenceName, parse_publication

SHOP: dict[str, Any] = {
    "namespace": "shop",
    "name": "orders-per-second",
    "query": "sum(rate(orders_total[2m]))",
    "leadSeconds": 90,
}


def test_query_and_lead_are_enough() -> None:
    made = parse_publication(SHOP)
    request = made.request
    assert (made.namespace, made.name) == ("shop", "orders-per-second")
    assert made.activation is ActivationRule.REQUIRE_BACKTEST
    assert request.series_name == "published/shop/orders-per-second"
    assert (request.step, request.season, request.lead) == (60, 86_400, 90)
    assert request.history == 14 * 86_400
    assert (request.levels, request.decision_level) == ((0.9,), 0.9)


def test_every_field_of_a_publication_is_parsed() -> None:
    made = parse_publication(
        SHOP
        | {
            "stepSeconds": 15,
            "seasonSeconds": 3600,
            "historySeconds": 7200,
            "quantilePercent": 95,
            "activation": "Always",
            "weekly": True,
        }
    )
    assert made.activation is ActivationRule.ALWAYS
    assert made.request.decision_level == 0.95
    assert (made.request.history, made.request.weekly) == (7200, True)


def test_default_history_of_a_short_step_is_capped() -> None:
    made = parse_publication(SHOP | {"stepSeconds": 15})
    assert made.request.history_steps == 60_000


def test_inference_maps_to_the_series_that_the_operator_requests() -> None:
    assert InferenceName("team-a", "production-r1").series_name == "team-a/production-r1"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("namespace", None),
        ("namespace", "Shop"),
        ("name", "orders per second"),
        ("name", "r1-forecast"),
        ("query", ""),
        ("leadSeconds", "90"),
        ("leadSeconds", -1),
        ("stepSeconds", 0),
        ("stepSeconds", "60"),
        ("seasonSeconds", None),
        ("historySeconds", True),
        ("quantilePercent", 100),
        ("quantilePercent", "90"),
        ("activation", "Sometimes"),
        ("weekly", "yes"),
        ("leadseconds", 90),
    ],
)
def test_a_bad_field_is_named(field: str, value: object) -> None:
    with pytest.raises(InvalidForecastRequest, match=f"^{field}"):
        parse_publication(SHOP | {field: value})


def test_the_lead_has_no_default() -> None:
    with pytest.raises(InvalidForecastRequest, match="^leadSeconds: is missing; set the seconds"):
        parse_publication({key: SHOP[key] for key in SHOP if key != "leadSeconds"})


def test_a_list_is_found_by_namespace_and_name() -> None:
    text = json.dumps([SHOP, SHOP | {"namespace": "lab"}])
    catalogue = parse_catalogue(text)
    assert catalogue.keys() == {("shop", "orders-per-second"), ("lab", "orders-per-second")}
    assert parse_catalogue("[]") == EMPTY


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "not JSON"),
        ("{}", "needs to be a JSON list"),
        ("[3]", r"^\[0\] needs to be an object"),
        (json.dumps([SHOP, SHOP | {"query": 7}]), r"^\[1\]\.query: "),
        (json.dumps([SHOP, SHOP]), r"^\[1\]\.name: shop/orders-per-second is published twice"),
    ],
)
def test_a_bad_list_names_entry_and_field(text: str, expected: str) -> None:
    with pytest.raises(InvalidForecastRequest, match=expected):
        parse_catalogue(text)

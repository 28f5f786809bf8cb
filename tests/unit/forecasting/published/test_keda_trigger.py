"""Metadata of a KEDA trigger: parsed fields and refused fields."""

from __future__ import annotations

import pytest

from r1_common.contracts.forecast_request import ActivationRule, InvalidForecastRequest
from r1_forecasting.published.keda.trigger import KedaTrigger, parse_trigger
from r1_forecasting.published.publication import InferenceName, Publication

METADATA = {
    "scalerAddress": "r1-forecaster.r1-system.svc:8083",
    "query": "sum(rate(orders_total[2m]))",
    "leadSeconds": "90",
    "threshold": "12.5",
}


def read(**changes: str) -> KedaTrigger:
    return parse_trigger("shop", "orders", METADATA | changes)


def test_a_query_with_its_lead_and_threshold_is_enough() -> None:
    trigger = read()
    assert isinstance(trigger.wanted, Publication)
    assert trigger.target == 12.5
    assert trigger.wanted.request.lead == 90
    assert trigger.wanted.request.decision_level == 0.9
    assert not trigger.active(0.0)
    assert trigger.active(0.1)


def test_every_field_of_a_trigger_is_parsed_from_text() -> None:
    trigger = read(
        stepSeconds="15",
        seasonSeconds="3600",
        historySeconds="36000",
        quantilePercent="95",
        activation="Advisory",
        activationThreshold="3",
        weekly="true",
    )
    assert isinstance(trigger.wanted, Publication)
    request = trigger.wanted.request
    assert (request.step, request.season, request.history) == (15, 3600, 36000)
    assert (request.decision_level, request.weekly) == (0.95, True)
    assert trigger.wanted.activation is ActivationRule.ADVISORY
    assert (trigger.active(3.0), trigger.active(3.1)) == (False, True)


def test_an_inference_needs_its_name_and_nothing_else() -> None:
    trigger = parse_trigger("team-a", "chat", {"inference": "production-r1", "threshold": "1000"})
    assert trigger.wanted == InferenceName("team-a", "production-r1")


def test_one_class_of_an_inference_is_named_beside_it() -> None:
    given = {"inference": "production-r1", "class": "Q1", "threshold": "1000"}
    wanted = parse_trigger("team-a", "chat", given).wanted
    assert wanted == InferenceName("team-a", "production-r1", "Q1")
    with pytest.raises(InvalidForecastRequest, match="^class: needs to be a class"):
        parse_trigger("team-a", "chat", given | {"class": " "})


def test_two_triggers_of_one_object_are_two_series() -> None:
    first, second = read(), read(query="sum(rate(refunds_total[2m]))")
    assert isinstance(first.wanted, Publication)
    assert isinstance(second.wanted, Publication)
    assert first.wanted.request.series_name != second.wanted.request.series_name
    assert first.wanted == read(threshold="99").wanted, "the target is no part of the series"


@pytest.mark.parametrize("changes", [{"leadSeconds": "300"}, {"quantilePercent": "50"}])
def test_two_triggers_on_one_query_have_separate_series(
    changes: dict[str, str],
) -> None:
    # One subject has one judgement: two questions in turn would have it made anew each time.
    first, second = read(), read(**changes)
    assert isinstance(first.wanted, Publication)
    assert isinstance(second.wanted, Publication)
    assert first.wanted.request.series_name != second.wanted.request.series_name


def test_values_out_of_the_workloads_environment_are_taken() -> None:
    # KEDA has looked the variable up and keeps the key's ending.
    given = {key: value for key, value in METADATA.items() if key != "threshold"}
    assert parse_trigger("shop", "orders", given | {"thresholdFromEnv": "7"}).target == 7
    with pytest.raises(InvalidForecastRequest, match="^threshold: is set twice"):
        read(thresholdFromEnv="7")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"threshold": "many"}, "threshold"),
        ({"threshold": "0"}, "threshold"),
        ({"threshold": "nan"}, "threshold"),
        ({"treshold": "5"}, "treshold"),
        ({"query": ""}, "query"),
        ({"leadSeconds": "90s"}, "leadSeconds"),
        ({"stepSeconds": "-1"}, "stepSeconds"),
        ({"quantilePercent": "0.9"}, "quantilePercent"),
        ({"activationThreshold": "low"}, "activationThreshold"),
        ({"activation": "Never"}, "activation"),
        ({"weekly": "si"}, "weekly"),
        ({"inference": "production-r1"}, "leadSeconds"),
        ({"class": "Q1"}, "class"),
    ],
)
def test_a_bad_field_is_named(changes: dict[str, str], field: str) -> None:
    with pytest.raises(InvalidForecastRequest, match=f"^{field}: "):
        read(**changes)


@pytest.mark.parametrize("missing", ["threshold", "query", "leadSeconds"])
def test_missing_field_is_named_with_the_fix(missing: str) -> None:
    given = {key: value for key, value in METADATA.items() if key != missing}
    with pytest.raises(InvalidForecastRequest, match=f"^{missing}: is missing; set "):
        parse_trigger("shop", "orders", given)


def test_an_inference_without_a_name_is_refused() -> None:
    with pytest.raises(InvalidForecastRequest, match="^inference: "):
        parse_trigger("shop", "orders", {"inference": " ", "threshold": "1"})

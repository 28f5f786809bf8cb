"""Objects of the external metrics API: one item in thousandths, or a Status with the fix."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import pytest

from r1_forecasting.published.catalogue import Catalogue
from r1_forecasting.published.external_metrics import (
    MetricRequestRefused,
    find_metric,
    group,
    group_list,
    resource_list,
    value_list,
)
from r1_forecasting.published.publication import InferenceName, parse_publication
from r1_forecasting.published.published_value import PublishedValue

ORDERS = parse_publication(
    {"namespace": "shop", "name": "orders", "query": "orders", "leadSeconds": 60}
)
CATALOGUE: Catalogue = {("shop", "orders"): ORDERS}


def shown(value: float) -> PublishedValue:
    return PublishedValue(value, 1_700_000_000.7, "BeatsBaselines", "expected")


@pytest.mark.parametrize(
    ("value", "quantity"),
    [(15.25, "15250m"), (0.0, "0m"), (0.0004, "0m"), (1e9, "1000000000000m"), (1 / 3, "333m")],
)
def test_value_is_in_thousandths(value: float, quantity: str) -> None:
    made = value_list("orders", {}, shown(value))
    assert made == {
        "kind": "ExternalMetricValueList",
        "apiVersion": "external.metrics.k8s.io/v1beta1",
        "metadata": {},
        "items": [
            {
                "metricName": "orders",
                "metricLabels": {},
                "timestamp": "2023-11-14T22:13:20Z",
                "value": quantity,
            }
        ],
    }


def test_a_published_metric_is_found_in_its_namespace_alone() -> None:
    assert find_metric(CATALOGUE, "shop", "orders", "") == (ORDERS, {})
    with pytest.raises(
        MetricRequestRefused, match="metric orders is not published in namespace lab"
    ) as no:
        find_metric(CATALOGUE, "lab", "orders", "")
    assert no.value.code is HTTPStatus.NOT_FOUND
    with pytest.raises(
        MetricRequestRefused, match=r"published are orders, r1-forecast \(of R1Inferences\)"
    ):
        find_metric(CATALOGUE, "shop", "order", "")


@pytest.mark.parametrize("selector", ["inference=chat", "inference==chat", " inference = chat "])
def test_an_inference_is_chosen_by_its_label(selector: str) -> None:
    named_metric, labels = find_metric(CATALOGUE, "shop", "r1-forecast", selector)
    assert named_metric == InferenceName("shop", "chat")
    assert labels == {"inference": "chat"}


def test_a_class_of_an_inference_is_chosen_by_a_second_label() -> None:
    named_metric, labels = find_metric(CATALOGUE, "shop", "r1-forecast", "class=Q1,inference=chat")
    assert named_metric == InferenceName("shop", "chat", "Q1")
    assert labels == {"inference": "chat", "class": "Q1"}


@pytest.mark.parametrize(
    ("metric", "selector", "expected"),
    [
        ("r1-forecast", "", "labelSelector: '' needs to be inference=NAME"),
        ("r1-forecast", "name=chat", "needs to be inference=NAME"),
        ("r1-forecast", "inference=chat,team=a", "needs to be inference=NAME"),
        ("r1-forecast", "class=Q1", "needs to be inference=NAME"),
        ("r1-forecast", "inference", "'inference' needs to be of the form key=value"),
        ("r1-forecast", "inference!=chat", "'inference!=chat' needs to be of the form key=value"),
        ("r1-forecast", "inference in (chat)", "needs to be of the form key=value"),
        ("orders", "team=a", "orders has no labels; remove the selector"),
    ],
)
def test_another_selector_is_refused_with_the_fix(
    metric: str, selector: str, expected: str
) -> None:
    with pytest.raises(MetricRequestRefused) as refused:
        find_metric(CATALOGUE, "shop", metric, selector)
    assert expected in str(refused.value)
    assert refused.value.code is HTTPStatus.BAD_REQUEST


def test_refused_request_returns_a_status_object() -> None:
    assert MetricRequestRefused(HTTPStatus.SERVICE_UNAVAILABLE, "NoData: nothing yet").status == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": "NoData: nothing yet",
        "reason": "ServiceUnavailable",
        "code": 503,
    }


def test_discovery_names_group_version_and_metrics() -> None:
    groups: list[dict[str, Any]] = group_list()["groups"]
    assert [each["name"] for each in groups] == ["external.metrics.k8s.io"]
    assert group()["preferredVersion"]["version"] == "v1beta1"
    resources = resource_list(CATALOGUE)["resources"]
    assert [each["name"] for each in resources] == ["orders", "r1-forecast"]
    # Garbage collection, quota and namespace deletion walk through what can be listed or deleted.
    assert all(each["verbs"] == ["get"] and each["namespaced"] for each in resources)

"""Routes and pods from objects of the API server, in any order, valid or invalid."""

import json
import logging
from typing import Any

import pytest

from r1_gateway.kube.discovery import EndpointSliceStore, RouteStore, read_gateway


def config_map(name: str, created: str = "2026-01-01T00:00:00Z", **route: Any) -> dict[str, Any]:
    resource = name.removesuffix("-route")
    document = {"namespace": "default", "name": resource, "seatsPerReplica": 4, **route}
    return {
        "metadata": {"namespace": "default", "name": name, "creationTimestamp": created},
        "data": {"route.json": json.dumps(document)},
    }


def endpoint_slice(
    name: str, service: str, *endpoints: dict[str, Any], port: int = 8000
) -> dict[str, Any]:
    return {
        "metadata": {
            "namespace": "default",
            "name": name,
            "labels": {"kubernetes.io/service-name": service},
        },
        "ports": [{"name": "metrics", "port": 9}, {"name": "http", "port": port}],
        "endpoints": list(endpoints),
    }


def endpoint(address: str, **conditions: bool) -> dict[str, Any]:
    return {"addresses": [address], "conditions": conditions}


def test_routes_are_listed_oldest_first() -> None:
    view = RouteStore()
    assert view.apply("default/b-route", config_map("b-route", "2026-01-02T00:00:00Z"))
    assert view.apply("default/a-route", config_map("a-route", "2026-01-03T00:00:00Z"))
    assert view.apply("default/c-route", config_map("c-route", "2026-01-01T00:00:00Z"))
    assert [spec.name for spec in view.oldest_first()] == ["c", "b", "a"]
    assert not view.apply("default/c-route", config_map("c-route", "2026-01-01T00:00:00Z"))
    assert view.apply("default/c-route", None)
    assert not view.apply("default/c-route", None)
    assert [spec.name for spec in view.oldest_first()] == ["b", "a"]


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"data": {"route.json": "{"}}, "not JSON"),
        ({"data": {}}, "missing"),
        ({"data": None}, "missing"),
        ({"data": {"route.json": "{}"}}, "namespace must be"),
    ],
)
def test_an_invalid_route_keeps_the_earlier_one_and_is_reported_once(
    bad: dict[str, Any], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    view = RouteStore()
    view.apply("default/a-route", config_map("a-route"))
    broken = {**config_map("a-route"), **bad}
    with caplog.at_level(logging.ERROR):
        assert not view.apply("default/a-route", broken)
        assert not view.apply("default/a-route", broken)
    assert [spec.name for spec in view.oldest_first()] == ["a"]
    assert view.errors == 1
    assert len(caplog.records) == 1
    assert words in caplog.text
    assert "keeping the earlier route" in caplog.text


def test_a_route_of_another_namespace_is_invalid() -> None:
    view = RouteStore()
    assert not view.apply("default/a-route", config_map("a-route", namespace="kube-system"))
    assert view.oldest_first() == []


def test_ready_means_ready_and_not_terminating() -> None:
    view = EndpointSliceStore()
    touched = view.apply(
        "default/m-1",
        endpoint_slice(
            "m-1",
            "m",
            endpoint("10.0.0.1", ready=True),
            endpoint("10.0.0.2", ready=False),
            endpoint("10.0.0.3", ready=True, terminating=True),
            endpoint("fd00::1"),
        ),
    )
    assert touched == {"default/m"}
    assert view.readiness("default/m") == {
        "10.0.0.1:8000": True,
        "10.0.0.2:8000": False,
        "10.0.0.3:8000": False,
        "[fd00::1]:8000": True,
    }


def test_slices_of_a_service_are_merged_and_may_change_service_or_be_deleted() -> None:
    view = EndpointSliceStore()
    view.apply("default/m-1", endpoint_slice("m-1", "m", endpoint("10.0.0.1", ready=True)))
    view.apply("default/m-2", endpoint_slice("m-2", "m", endpoint("10.0.0.2", ready=True)))
    assert set(view.readiness("default/m")) == {"10.0.0.1:8000", "10.0.0.2:8000"}
    # While a pod moves between slices it may be in both: ready in one is ready.
    view.apply(
        "default/m-2",
        endpoint_slice(
            "m-2", "m", endpoint("10.0.0.2", ready=True), endpoint("10.0.0.1", ready=False)
        ),
    )
    assert view.readiness("default/m")["10.0.0.1:8000"] is True
    assert view.apply("default/m-1", None) == {"default/m"}
    assert view.readiness("default/m")["10.0.0.1:8000"] is False
    assert view.apply("default/m-2", endpoint_slice("m-2", "n")) == {"default/m", "default/n"}
    assert view.readiness("default/m") == {}
    no_ports = {**endpoint_slice("m-3", "m", endpoint("10.0.0.9", ready=True)), "ports": None}
    view.apply("default/m-3", no_ports)
    assert view.readiness("default/m") == {}


def test_a_gateway_that_drains_keeps_its_share_of_the_seats_until_its_pod_is_gone() -> None:
    view = EndpointSliceStore(read_gateway)
    draining = endpoint("10.0.0.1", ready=False, serving=False, terminating=True)
    pods = [
        endpoint("10.0.0.2", ready=True, serving=True, terminating=False),
        endpoint("10.0.0.3", ready=False, serving=False, terminating=False),
    ]
    view.apply("default/g-1", endpoint_slice("g-1", "g", draining, *pods))
    assert sum(view.readiness("default/g").values()) == 2
    view.apply("default/g-1", endpoint_slice("g-1", "g", *pods))
    assert sum(view.readiness("default/g").values()) == 1


def test_a_gateway_with_addresses_of_two_families_is_one() -> None:
    view = EndpointSliceStore(read_gateway)
    for family, address in (("4", "10.0.0.1"), ("6", "fd00::1")):
        pod = {**endpoint(address, ready=True), "targetRef": {"kind": "Pod", "uid": "u-1"}}
        view.apply(f"default/g-{family}", endpoint_slice(f"g-{family}", "g", pod))
    assert sum(view.readiness("default/g").values()) == 1

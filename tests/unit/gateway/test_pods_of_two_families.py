"""A pod of a dual-stack Service is in a slice of each IP family, and is one pod."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1_common.contracts.route import parse_route
from r1_gateway.gateway import Gateway
from r1_gateway.kube.discovery import EndpointSliceStore

SERVICE = "default/m"


def address(pod: int, family: int) -> str:
    return f"10.0.0.{pod + 1}" if family == 4 else f"fd00::{pod + 1:x}"


def slice_of(
    name: str, family: int, pods: dict[int, bool], *, identified_by: str = "uid"
) -> dict[str, Any]:
    return {
        "metadata": {
            "namespace": "default",
            "name": name,
            "labels": {"kubernetes.io/service-name": "m"},
        },
        "addressType": f"IPv{family}",
        "ports": [{"name": "http", "port": 8000}],
        "endpoints": [
            {
                "addresses": [address(pod, family)],
                "conditions": {"ready": ready},
                "targetRef": {"kind": "Pod", identified_by: f"pod-{pod}"},
            }
            for pod, ready in pods.items()
        ],
    }


@pytest.mark.parametrize("identified_by", ["uid", "name"])
@pytest.mark.parametrize(("ipv6_first", "host"), [(False, "10.0.0.1"), (True, "[fd00::1]")])
def test_the_seats_of_a_pod_in_two_slices_count_once(
    ipv6_first: bool, host: str, identified_by: str
) -> None:
    view = EndpointSliceStore(ipv6_first=ipv6_first)
    for family in (4, 6):
        made = slice_of(f"m-{family}", family, {0: True}, identified_by=identified_by)
        view.apply(f"default/m-{family}", made)
    assert view.readiness(SERVICE) == {f"{host}:8000": True}
    gateway = Gateway()
    gateway.set_routes([parse_route({"namespace": "default", "name": "m", "seatsPerReplica": 8})])
    gateway.set_pods(SERVICE, view.readiness(SERVICE))
    assert gateway.routes[SERVICE].admission.pool.seats == 8


def test_endpoints_without_a_pod_are_counted_by_address() -> None:
    view = EndpointSliceStore(ipv6_first=False)
    made = slice_of("m-4", 4, {0: True, 1: True})
    for endpoint in made["endpoints"]:
        del endpoint["targetRef"]
    view.apply("default/m-4", made)
    assert len(view.readiness(SERVICE)) == 2


def test_a_pod_of_one_family_stays_beside_pods_of_two() -> None:
    view = EndpointSliceStore(ipv6_first=True)
    view.apply("default/m-4", slice_of("m-4", 4, {0: True, 1: True}))
    view.apply("default/m-6", slice_of("m-6", 6, {1: True}))
    assert view.readiness(SERVICE) == {"10.0.0.1:8000": True, "[fd00::2]:8000": True}
    view.apply("default/m-6", None)
    assert view.readiness(SERVICE) == {"10.0.0.1:8000": True, "10.0.0.2:8000": True}


def test_the_cluster_s_first_family_is_that_of_the_api_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slices = [slice_of("m-4", 4, {0: True}), slice_of("m-6", 6, {0: True})]
    for api_server, host in (("10.96.0.1", "10.0.0.1"), ("fd00:96::1", "[fd00::1]")):
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", api_server)
        view = EndpointSliceStore()
        for number, each in enumerate(slices):
            view.apply(f"default/{number}", each)
        assert list(view.readiness(SERVICE)) == [f"{host}:8000"]


POD = st.integers(0, 7)
SLICES = st.lists(st.tuples(st.sampled_from([4, 6]), st.dictionaries(POD, st.booleans())))


@given(SLICES, st.booleans(), st.randoms())
def test_each_pod_is_counted_once_for_any_slices_in_any_order(
    slices: list[tuple[int, dict[int, bool]]], ipv6_first: bool, order: Any
) -> None:
    named = [(f"default/s{n}", family, pods) for n, (family, pods) in enumerate(slices)]
    views = []
    for _ in range(2):
        view = EndpointSliceStore(ipv6_first=ipv6_first)
        for key, family, pods in named:
            view.apply(key, slice_of(key, family, pods))
        views.append(view.readiness(SERVICE))
        order.shuffle(named)
    assert views[0] == views[1]
    listed = {pod for _, _, group in named for pod in group}
    assert len(views[0]) == len(listed)
    preferred = 6 if ipv6_first else 4
    for place in views[0]:
        host = ipaddress.ip_address(place.rpartition(":")[0].strip("[]"))
        pod = int(str(host).rpartition(".")[2].rpartition(":")[2], 16 if host.version == 6 else 10)
        families = {family for _, family, group in named if pod - 1 in group}
        assert host.version == (preferred if preferred in families else families.pop())

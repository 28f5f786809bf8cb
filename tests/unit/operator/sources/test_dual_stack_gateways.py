"""A gateway of a dual-stack Service is polled once, always at the same address."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from r1_operator.kube.client import Api
from r1_operator.sources.gateways import GatewayDirectory


class Slices:
    """The API that the directory reads."""

    def __init__(self, *items: dict[str, Any]) -> None:
        self.items = items

    async def list_pages(self, *_: Any, **__: Any) -> AsyncIterator[dict[str, Any]]:
        for item in self.items:
            yield {"items": [item]}


def slice_of(*addresses: str, pod: str | None) -> dict[str, Any]:
    endpoint: dict[str, Any] = {"addresses": list(addresses)}
    if pod is not None:
        endpoint["targetRef"] = {"kind": "Pod", "name": pod}
    return {"ports": [{"name": "admin", "port": 8081}], "endpoints": [endpoint]}


V4, V6 = slice_of("10.0.0.1", pod="gateway-1"), slice_of("fd00::1", pod="gateway-1")


@pytest.mark.parametrize("items", [(V4, V6), (V6, V4)], ids=["IPv4 listed first", "IPv6 first"])
@pytest.mark.parametrize(("ipv6_first", "host"), [(False, "10.0.0.1"), (True, "[fd00::1]")])
async def test_the_address_is_independent_of_the_slice_order(
    items: tuple[dict[str, Any], ...], ipv6_first: bool, host: str
) -> None:
    api = cast("Api", Slices(*items))
    directory = GatewayDirectory(api, service="r1-system/r1-gateway", ipv6_first=ipv6_first)
    assert await directory.signal_urls() == {"gateway-1": f"http://{host}:8081/signals"}


async def test_a_gateway_without_a_pod_is_known_by_its_address() -> None:
    api = cast("Api", Slices(slice_of("fd00::7", pod=None)))
    directory = GatewayDirectory(api, service="r1-system/r1-gateway", ipv6_first=False)
    assert await directory.signal_urls() == {"fd00::7": "http://[fd00::7]:8081/signals"}


@pytest.mark.parametrize(
    "odd",
    [
        None,
        5,
        {"ports": [None]},
        {"endpoints": 5},
        {"endpoints": [None]},
        {"endpoints": [{"addresses": [None]}]},
        {"endpoints": [{"addresses": ["10.0.0.9"], "targetRef": "pod"}]},
    ],
    ids=str,
)
async def test_a_malformed_endpoint_slice_does_not_hide_other_gateways(odd: Any) -> None:
    api = cast("Api", Slices(odd, V4))
    directory = GatewayDirectory(api, service="r1-system/r1-gateway", ipv6_first=False)
    assert await directory.signal_urls() == {"gateway-1": "http://10.0.0.1:8081/signals"}

"""Discovery of gateways by the EndpointSlices of their Service.

The slices are listed every few seconds instead of watched: the list is small, and a stopped gateway is
noticed at once because it does not answer. Pods that are not ready still have counters, and terminating
pods still have requests in flight, so that all pods are polled.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from r1_common.ip_family import choose_address, prefers_ipv6
from r1_common.listen import host_port
from r1_operator.kube.client import Api, KubeApiError
from r1_operator.kube.kinds import ENDPOINT_SLICE, Json

logger = logging.getLogger(__name__)

ADMIN_PORT = 8081


class GatewayDirectory:
    """Names and signal URLs of the gateways."""

    def __init__(
        self,
        api: Api | None,
        *,
        service: str = "",
        urls: Sequence[str] = (),
        refresh_seconds: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
        ipv6_first: bool | None = None,
    ) -> None:
        """`service` is `namespace/name`; `urls` replace discovery.

        `ipv6_first` selects the address of a dual-stack gateway; None: the first family of the cluster.
        """
        self._ipv6_first = prefers_ipv6() if ipv6_first is None else ipv6_first
        self._api = api
        self._service = service
        self._refresh = refresh_seconds
        self._clock = clock
        self._listed_at = float("-inf")
        self._urls: dict[str, str] = {url: _signals_url(url) for url in urls}
        self._fixed = bool(urls)

    @property
    def configured(self) -> bool:
        """Whether a Service or URLs are configured."""
        return self._fixed or bool(self._service)

    async def signal_urls(self) -> Mapping[str, str]:
        """URLs by gateway; the last list stays while the API server does not answer."""
        due = self._clock() - self._listed_at >= self._refresh
        if self._fixed or not self._service or self._api is None or not due:
            return self._urls
        self._listed_at = self._clock()
        namespace, _, name = self._service.partition("/")
        addresses_by_gateway: dict[str, set[str]] = {}
        try:
            async for page in self._api.list_pages(
                ENDPOINT_SLICE, namespace, label_selector=f"kubernetes.io/service-name={name}"
            ):
                for item in page["items"]:
                    for gateway, address in self._parse_slice(item):
                        addresses_by_gateway.setdefault(gateway, set()).add(address)
        except KubeApiError as error:
            logger.warning(
                "gateways of Service %s were not listed, using the last list: %s",
                self._service,
                error,
            )
        else:
            self._urls = {
                gateway: f"http://{choose_address({}, addresses, ipv6_first=self._ipv6_first)}/signals"
                for gateway, addresses in addresses_by_gateway.items()
            }
        return self._urls

    def _parse_slice(self, endpoint_slice: Any) -> list[tuple[str, str]]:
        """The gateways of a slice; none if the object is malformed."""
        try:
            return list(_gateways(endpoint_slice))
        except (AttributeError, TypeError) as error:
            logger.warning(
                "a malformed EndpointSlice of Service %s is ignored: %s", self._service, error
            )
            return []


def _gateways(endpoint_slice: Json) -> Iterator[tuple[str, str]]:
    """Pod and `host:port` of each gateway; a dual-stack pod is in one slice per IP family."""
    ports = {port.get("name"): port.get("port") for port in endpoint_slice.get("ports") or ()}
    port = ports.get("admin") or ADMIN_PORT
    for endpoint in endpoint_slice.get("endpoints") or ():
        for address in endpoint.get("addresses") or ():
            name = (endpoint.get("targetRef") or {}).get("name") or address
            yield name, host_port(address, port)


def _signals_url(url: str) -> str:
    return url if url.rstrip("/").endswith("/signals") else f"{url.rstrip('/')}/signals"

"""Which gateways there are: the pods behind the gateway's Service, by its EndpointSlices.

Asked every few seconds rather than watched: it is one small read, and a gateway that is gone shows
at once anyway, because it no longer answers. A pod that is not ready still has counters worth
reading; one that is terminating still has requests in flight.
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
        """`service` is `namespace/name`; `urls`, when given, are used instead of any discovery.

        `ipv6_first`: the address to use of a gateway with two; None: the cluster's first family.
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
        """Whether there is anywhere to look at all."""
        return self._fixed or bool(self._service)

    async def signal_urls(self) -> Mapping[str, str]:
        """Gateway to URL. What was last known stays when the API server does not answer."""
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
            logger.warning("gateways of %s: %s", self._service, error)
        else:
            self._urls = {
                gateway: f"http://{choose_address({}, addresses, ipv6_first=self._ipv6_first)}/signals"
                for gateway, addresses in addresses_by_gateway.items()
            }
        return self._urls

    def _parse_slice(self, endpoint_slice: Any) -> list[tuple[str, str]]:
        """Its gateways; none of an object of odd shape, which must not hide those of the others."""
        try:
            return list(_gateways(endpoint_slice))
        except (AttributeError, TypeError) as error:
            logger.warning("an EndpointSlice of %s is left out: %s", self._service, error)
            return []


def _gateways(endpoint_slice: Json) -> Iterator[tuple[str, str]]:
    """Pod and `host:port` of each gateway; of two IP families a pod is in a slice of each."""
    ports = {port.get("name"): port.get("port") for port in endpoint_slice.get("ports") or ()}
    port = ports.get("admin") or ADMIN_PORT
    for endpoint in endpoint_slice.get("endpoints") or ():
        for address in endpoint.get("addresses") or ():
            name = (endpoint.get("targetRef") or {}).get("name") or address
            yield name, host_port(address, port)


def _signals_url(url: str) -> str:
    return url if url.rstrip("/").endswith("/signals") else f"{url.rstrip('/')}/signals"

"""Routes and pods from Kubernetes: ConfigMaps that the operator writes, EndpointSlices.

Two mirrors feed the door.  A ``route.json`` that cannot be used keeps the route it replaces.  The
API server may be away: what is known stays in force, and the door serves on.

Needs ``get, list, watch`` on ``configmaps`` and on ``endpointslices.discovery.k8s.io``.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import aiohttp

from r1_common.ip_family import choose_address, prefers_ipv6
from r1_gateway.door import Door
from r1_gateway.kube_access import find_access
from r1_gateway.list_watch import KubeObject, ListWatch
from r1_gateway.route_spec import InvalidRoute, RouteSpec, parse_route

logger = logging.getLogger(__name__)

ROUTE_SELECTOR = "deepseek.ai/route=true"
SLICE_SELECTOR = "deepseek.ai/r1inference"
SERVICE_LABEL = "kubernetes.io/service-name"
ROUTE_FILE = "route.json"
SETTLE_SECONDS = 0.05


class RouteView:
    """Routes by ConfigMap; the latest usable version of each."""

    def __init__(self) -> None:
        self._routes: dict[str, tuple[str, RouteSpec]] = {}
        self._complaints: dict[str, str] = {}
        self.errors = 0

    def take(self, key: str, item: KubeObject | None) -> bool:
        """A ConfigMap came, changed or (None) went; True when the routes changed."""
        if item is None:
            self._complaints.pop(key, None)
            return self._routes.pop(key, None) is not None
        try:
            spec = _route_of(item)
        except InvalidRoute as error:
            if self._complaints.get(key) != str(error):
                self._complaints[key] = str(error)
                self.errors += 1
                kept = "the old route stays" if key in self._routes else "no route"
                logger.error("ConfigMap %s: %s: %s; %s", key, ROUTE_FILE, error, kept)
            return False
        self._complaints.pop(key, None)
        entry = (str(item["metadata"].get("creationTimestamp", "")), spec)
        if self._routes.get(key) == entry:
            return False
        self._routes[key] = entry
        return True

    def oldest_first(self) -> list[RouteSpec]:
        """All routes, one per resource, the oldest ConfigMap first."""
        entries = sorted((created, key, spec) for key, (created, spec) in self._routes.items())
        found: dict[str, RouteSpec] = {}
        for _, _, spec in entries:
            found.setdefault(spec.key, spec)
        return list(found.values())


def _route_of(item: KubeObject) -> RouteSpec:
    text = (item.get("data") or {}).get(ROUTE_FILE)
    if text is None:
        raise InvalidRoute("the key is missing")
    try:
        document = json.loads(text)
    except ValueError as error:
        raise InvalidRoute(f"not JSON: {error}") from None
    spec = parse_route(document)
    if spec.namespace != item["metadata"].get("namespace"):
        raise InvalidRoute(f"namespace {spec.namespace!r} is not the ConfigMap's own")
    return spec


class PodView:
    """Pods by Service, merged over all of a Service's slices."""

    def __init__(
        self,
        read: Callable[[KubeObject], dict[str, bool]] | None = None,
        *,
        ipv6_first: bool | None = None,
    ) -> None:
        """``ipv6_first``: the address to use of a pod with two; None: the cluster's first family."""
        self._read = read or _readiness
        self._ipv6_first = prefers_ipv6() if ipv6_first is None else ipv6_first
        self._identities: dict[str, dict[str, str]] = {}
        self._slices: dict[str, tuple[str, dict[str, bool]]] = {}
        self._by_service: dict[str, set[str]] = {}

    def take(self, key: str, item: KubeObject | None) -> set[str]:
        """A slice came, changed or (None) went; the services (namespace/name) it touches."""
        touched: set[str] = set()
        self._identities.pop(key, None)
        old = self._slices.pop(key, None)
        if old is not None:
            touched.add(old[0])
            self._by_service[old[0]].discard(key)
        if item is not None:
            service = item["metadata"].get("labels", {}).get(SERVICE_LABEL)
            if service:
                name = f"{item['metadata']['namespace']}/{service}"
                self._slices[key] = (name, self._read(item))
                self._identities[key] = _identities(item)
                self._by_service.setdefault(name, set()).add(key)
                touched.add(name)
        return touched

    def readiness(self, service: str) -> dict[str, bool]:
        """Pods of a Service: address -> ready for new requests; one address for each pod.

        A dual-stack Service has a slice of each family, and a pod is in both.
        """
        merged: dict[str, bool] = {}
        pods: dict[str, set[str]] = {}
        for key in sorted(self._by_service.get(service, ())):
            for address, ready in self._slices[key][1].items():
                merged[address] = merged.get(address, False) or ready
                host = address.rpartition(":")[0]
                pods.setdefault(self._identities.get(key, {}).get(host, address), set()).add(
                    address
                )
        chosen = (
            choose_address(merged, addresses, ipv6_first=self._ipv6_first)
            for addresses in pods.values()
        )
        return {address: merged[address] for address in chosen}


def _readiness(item: KubeObject) -> dict[str, bool]:
    ports = item.get("ports") or []
    named = [port for port in ports if port.get("name") == "http"] or ports[:1]
    if not named or named[0].get("port") is None:
        return {}
    port = named[0]["port"]
    found: dict[str, bool] = {}
    for endpoint in item.get("endpoints") or []:
        conditions = endpoint.get("conditions") or {}
        ready = conditions.get("ready") is not False and not conditions.get("terminating")
        for address in endpoint.get("addresses") or []:
            host = f"[{address}]" if ":" in address else address
            found[f"{host}:{port}"] = ready
    return found


def _identities(item: KubeObject) -> dict[str, str]:
    """Host of each endpoint -> the pod behind it, the same in the slices of both families."""
    found: dict[str, str] = {}
    endpoints = item.get("endpoints")
    for endpoint in endpoints if isinstance(endpoints, list) else []:
        target = endpoint.get("targetRef") if isinstance(endpoint, dict) else None
        pod = (target.get("uid") or target.get("name")) if isinstance(target, dict) else None
        addresses = endpoint.get("addresses") if pod else None
        for address in addresses if isinstance(addresses, list) else []:
            found[f"[{address}]" if ":" in str(address) else str(address)] = str(pod)
    return found


def read_gateways(item: KubeObject) -> dict[str, bool]:
    """Gateways of a slice: pod (an address where it has no reference) -> may have requests running.

    A gateway that drains fails its readiness probe, so ``serving`` is soon false, but its streams
    run on.  Until its pod is gone it is listed as terminating and keeps its share of the seats.
    """
    found: dict[str, bool] = {}
    for endpoint in item.get("endpoints") or []:
        conditions = endpoint.get("conditions") or {}
        ready = conditions.get("ready") is not False
        pod = (endpoint.get("targetRef") or {}).get("uid")  # one for both address families
        for address in endpoint.get("addresses") or []:
            found[pod or address] = ready or bool(conditions.get("terminating"))
    return found


class Discovery:
    """Feeds a door from the API server."""

    def __init__(
        self, door: Door, *, namespace: str | None = None, gateway_service: str | None = None
    ) -> None:
        self._door = door
        self._namespace = namespace
        self._gateway_service = gateway_service
        self._routes = RouteView()
        self._pods = PodView()
        self._peers = PodView(read_gateways)
        self._mirrors: list[ListWatch] = []
        self._session: aiohttp.ClientSession | None = None
        self._settling: asyncio.TimerHandle | None = None

    @property
    def errors(self) -> int:
        """Routes that could not be used since the start."""
        return self._routes.errors

    @property
    def synced(self) -> bool:
        """Routes and pods were listed once (other gateways may come later)."""
        return len(self._mirrors) >= 2 and all(mirror.synced for mirror in self._mirrors[:2])

    async def connect(self) -> None:
        """Find the API server.

        Raises:
            NoCluster: no credentials.
        """
        access = await find_access()
        self._session = session = aiohttp.ClientSession()
        scope = f"/namespaces/{self._namespace}" if self._namespace else ""
        self._mirrors = [
            ListWatch(
                session, access, f"/api/v1{scope}/configmaps", ROUTE_SELECTOR, self._on_route
            ),
            ListWatch(
                session,
                access,
                f"/apis/discovery.k8s.io/v1{scope}/endpointslices",
                SLICE_SELECTOR,
                self._on_slice,
            ),
        ]
        if self._gateway_service is not None:
            namespace, name = self._gateway_service.split("/")
            path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
            selector = f"{SERVICE_LABEL}={name}"
            self._mirrors.append(ListWatch(session, access, path, selector, self._on_peer))

    async def run(self) -> None:
        """Mirror for ever."""
        runs: list[Coroutine[Any, Any, None]] = [mirror.run() for mirror in self._mirrors]
        await asyncio.gather(*runs)

    async def close(self) -> None:
        """Let the API server go."""
        if self._session is not None:
            await self._session.close()

    def _on_route(self, key: str, item: KubeObject | None) -> None:
        if self._routes.take(key, item) and self._settling is None:
            loop = asyncio.get_running_loop()  # a list of thousands is taken over once
            self._settling = loop.call_later(SETTLE_SECONDS, self._settle)

    def _settle(self) -> None:
        self._settling = None
        self._door.set_routes(self._routes.oldest_first())

    def _on_slice(self, key: str, item: KubeObject | None) -> None:
        for service in self._pods.take(key, item):
            self._door.set_pods(service, self._pods.readiness(service))

    def _on_peer(self, key: str, item: KubeObject | None) -> None:
        for service in self._peers.take(key, item):
            self._door.set_gateways(sum(self._peers.readiness(service).values()))

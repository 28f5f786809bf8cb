"""Routes and pods from Kubernetes: the operator's ConfigMaps, and EndpointSlices.

Two watches feed the gateway.  A ConfigMap with an invalid ``route.json`` keeps its earlier route; it
is logged, counted, and reported by an Event on the ConfigMap.  While the API server is unreachable,
the last known state stays in force.

RBAC: ``get, list, watch`` on ``configmaps`` and on ``endpointslices.discovery.k8s.io``, and
``create`` on ``events``; without the last only the Events are missing.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Mapping

import aiohttp

from r1_common.contracts.route import InvalidRoute, RouteSpec, parse_route
from r1_common.ip_family import choose_address, prefers_ipv6
from r1_common.kube.access import find_access
from r1_common.kube.list_watch import KubeObject
from r1_common.supervision import Supervisor
from r1_common.untrusted_json import InvalidJson, convert_errors, parse_json
from r1_gateway.gateway import Gateway
from r1_gateway.kube.invalid_route_events import InvalidRouteEvents
from r1_gateway.kube.watched_objects import WatchedObjects

logger = logging.getLogger(__name__)

ROUTE_SELECTOR = "deepseek.ai/route=true"
SLICE_SELECTOR = "deepseek.ai/r1inference"
SERVICE_LABEL = "kubernetes.io/service-name"
ROUTE_FILE = "route.json"
BATCH_SECONDS = 0.05
ROUTE_BYTES = 256 << 10
MESSAGE_CHARACTERS = 500
_HOST = re.compile(r"[0-9A-Za-z._:%-]{1,253}")


class RouteStore:
    """Routes by ConfigMap: the latest valid version of each."""

    def __init__(self, on_invalid: Callable[[KubeObject, str], None] | None = None) -> None:
        self._routes: dict[str, tuple[str, RouteSpec]] = {}
        self._problems: dict[str, str] = {}
        self._on_invalid = on_invalid
        self.errors = 0

    @property
    def invalid_configmaps(self) -> Mapping[str, str]:
        """ConfigMaps whose current version is invalid (``namespace/name``), and the reason."""
        return self._problems

    def apply(self, key: str, item: KubeObject | None) -> bool:
        """Apply an added, changed or deleted (None) ConfigMap; True when the routes changed."""
        if item is None:
            self._problems.pop(key, None)
            return self._routes.pop(key, None) is not None
        try:
            with convert_errors(InvalidRoute, "the object"):
                entry = (str(item["metadata"].get("creationTimestamp", "")), _route_of(item))
        except InvalidRoute as error:
            self._reject(key, item, str(error)[:MESSAGE_CHARACTERS])
            return False
        self._problems.pop(key, None)
        if self._routes.get(key) == entry:
            return False
        self._routes[key] = entry
        return True

    def _reject(self, key: str, item: KubeObject, problem: str) -> None:
        if self._problems.get(key) == problem:
            return
        self._problems[key] = problem
        self.errors += 1
        effect = "keeping the earlier route" if key in self._routes else "the resource has no route"
        logger.error("ConfigMap %s: invalid %s: %s; %s", key, ROUTE_FILE, problem, effect)
        if self._on_invalid is not None:
            self._on_invalid(item, f"Invalid {ROUTE_FILE}: {problem}; {effect}.")

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
        raise InvalidRoute("the key is missing from the ConfigMap's data")
    if not isinstance(text, str):
        raise InvalidRoute("the value must be a string")
    try:
        document = parse_json(text, max_bytes=ROUTE_BYTES)
    except InvalidJson as error:
        raise InvalidRoute(str(error)) from None
    spec = parse_route(document)
    if spec.namespace != item["metadata"].get("namespace"):
        raise InvalidRoute(f"namespace {spec.namespace!r} must be the namespace of the ConfigMap")
    return spec


class InvalidSlice(ValueError):
    """An invalid EndpointSlice or endpoint; the message names the field."""


class EndpointSliceStore:
    """Pods by Service, merged over all slices of the Service."""

    def __init__(
        self,
        read: Callable[[KubeObject, int | None], dict[str, bool]] | None = None,
        *,
        ipv6_first: bool | None = None,
    ) -> None:
        """``ipv6_first``: the family to use of a pod with two; None: the cluster's first family."""
        self._read = read or _readiness
        self._ipv6_first = prefers_ipv6() if ipv6_first is None else ipv6_first
        self._identities: dict[str, dict[str, str]] = {}
        self._slices: dict[str, tuple[str, dict[str, bool]]] = {}
        self._by_service: dict[str, set[str]] = {}
        self.errors = 0

    def apply(self, key: str, item: KubeObject | None) -> set[str]:
        """Apply an added, changed or deleted (None) slice; the affected Services (namespace/name).

        An invalid slice is logged and counted, and its earlier version stays.
        """
        touched: set[str] = set()
        parsed = None
        identities: dict[str, str] = {}
        if item is not None:
            try:
                with convert_errors(InvalidSlice, "the object"):
                    parsed = self._parse(key, item)
                    identities = _identities(item)
            except InvalidSlice as error:
                self.errors += 1
                logger.error(
                    "EndpointSlice %s is invalid: %s; keeping its earlier version", key, error
                )
                return touched
        old = self._slices.pop(key, None)
        if old is not None:
            touched.add(old[0])
            self._by_service[old[0]].discard(key)
        self._identities.pop(key, None)
        if parsed is not None:
            self._slices[key] = parsed
            self._identities[key] = identities
            self._by_service.setdefault(parsed[0], set()).add(key)
            touched.add(parsed[0])
        return touched

    def _parse(self, key: str, item: KubeObject) -> tuple[str, dict[str, bool]] | None:
        """Service and pods of a slice; None for a slice of no Service."""
        service = (item["metadata"].get("labels") or {}).get(SERVICE_LABEL)
        if not service:
            return None
        found: dict[str, bool] = {}
        port = _port(item)
        for endpoint in item.get("endpoints") or []:
            try:
                with convert_errors(InvalidSlice, "an endpoint"):
                    found.update(self._read(endpoint, port))
            except InvalidSlice as error:
                self.errors += 1
                logger.error("EndpointSlice %s: ignoring an invalid endpoint: %s", key, error)
        return f"{item['metadata']['namespace']}/{service}", found

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


def _port(item: KubeObject) -> int | None:
    """The port of the model server; None when the slice has none yet."""
    ports = item.get("ports") or []
    named = [port for port in ports if port.get("name") == "http"] or ports[:1]
    port = named[0].get("port") if named else None
    if port is None:
        return None
    if not isinstance(port, int) or isinstance(port, bool) or not 0 < port < 65536:
        raise InvalidSlice(f"port {str(port)[:40]!r} must be from 1 to 65535")
    return port


def _readiness(endpoint: KubeObject, port: int | None) -> dict[str, bool]:
    """Addresses of a model pod -> ready for new requests; empty while the port is unknown."""
    if port is None:
        return {}
    conditions = endpoint.get("conditions") or {}
    ready = conditions.get("ready") is not False and not conditions.get("terminating")
    found: dict[str, bool] = {}
    for address in endpoint.get("addresses") or []:
        if not isinstance(address, str) or not _HOST.fullmatch(address):
            raise InvalidSlice(f"{str(address)[:40]!r} is not an address")
        host = f"[{address}]" if ":" in address else address
        found[f"{host}:{port}"] = ready
    return found


def _identities(item: KubeObject) -> dict[str, str]:
    """Host of each endpoint -> its pod, which is the same in the slices of both families."""
    found: dict[str, str] = {}
    endpoints = item.get("endpoints")
    for endpoint in endpoints if isinstance(endpoints, list) else []:
        target = endpoint.get("targetRef") if isinstance(endpoint, dict) else None
        pod = (target.get("uid") or target.get("name")) if isinstance(target, dict) else None
        addresses = endpoint.get("addresses") if pod else None
        for address in addresses if isinstance(addresses, list) else []:
            found[f"[{address}]" if ":" in str(address) else str(address)] = str(pod)
    return found


def read_gateway(endpoint: KubeObject, port: int | None = None) -> dict[str, bool]:
    """A gateway's pod (its addresses without a reference) -> may have requests in flight.

    A draining gateway fails its readiness probe while its streams go on.  Until the pod is deleted it
    is listed as terminating and keeps its share of the seats.
    """
    conditions = endpoint.get("conditions") or {}
    active = conditions.get("ready") is not False or bool(conditions.get("terminating"))
    pod = (endpoint.get("targetRef") or {}).get("uid")  # one for both address families
    return {pod or address: active for address in endpoint.get("addresses") or []}


class Discovery:
    """Updates a gateway from the API server."""

    def __init__(
        self, gateway: Gateway, *, namespace: str | None = None, gateway_service: str | None = None
    ) -> None:
        self._gateway = gateway
        self._namespace = namespace
        self._gateway_service = gateway_service
        self._routes = RouteStore(self._on_invalid)
        self._pods = EndpointSliceStore()
        self._peers = EndpointSliceStore(read_gateway)
        self._watches: list[WatchedObjects] = []
        self._session: aiohttp.ClientSession | None = None
        self._events: InvalidRouteEvents | None = None
        self._update_timer: asyncio.TimerHandle | None = None

    @property
    def errors(self) -> int:
        """Invalid objects since the start."""
        return (
            self._routes.errors
            + self._pods.errors
            + self._peers.errors
            + sum(watch.errors for watch in self._watches)
        )

    @property
    def invalid_configmaps(self) -> Mapping[str, str]:
        """ConfigMaps whose current version is invalid (``namespace/name``), and the reason."""
        return self._routes.invalid_configmaps

    @property
    def synced(self) -> bool:
        """Whether routes and pods were listed once; the other gateways may follow later."""
        return len(self._watches) >= 2 and all(watch.synced for watch in self._watches[:2])

    async def connect(self) -> None:
        """Find the API server and its credentials.

        Raises:
            NoCluster: no credentials.
        """
        access = await find_access(hint=", or use --config FILE")
        self._session = session = aiohttp.ClientSession()
        self._events = InvalidRouteEvents(session, access)
        scope = f"/namespaces/{self._namespace}" if self._namespace else ""
        self._watches = [
            WatchedObjects(
                session, access, f"/api/v1{scope}/configmaps", ROUTE_SELECTOR, self._on_route
            ),
            WatchedObjects(
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
            self._watches.append(WatchedObjects(session, access, path, selector, self._on_peer))

    def start(self, supervisor: Supervisor) -> None:
        """Start one task for each watch, and one for the Events."""
        for watch in self._watches:
            supervisor.start(f"watch of {watch.path}", watch.run)
        if self._events is not None:
            supervisor.start("events of invalid ConfigMaps", self._events.run)

    async def close(self) -> None:
        """Close the connections to the API server."""
        if self._session is not None:
            await self._session.close()

    def _on_invalid(self, item: KubeObject, problem: str) -> None:
        if self._events is not None:
            self._events.report(item, problem)

    def _on_route(self, key: str, item: KubeObject | None) -> None:
        if self._routes.apply(key, item) and self._update_timer is None:
            loop = asyncio.get_running_loop()  # a list of thousands is applied at once
            self._update_timer = loop.call_later(BATCH_SECONDS, self._update_routes)

    def _update_routes(self) -> None:
        self._update_timer = None
        self._gateway.set_routes(self._routes.oldest_first())

    def _on_slice(self, key: str, item: KubeObject | None) -> None:
        for service in self._pods.apply(key, item):
            self._gateway.set_pods(service, self._pods.readiness(service))

    def _on_peer(self, key: str, item: KubeObject | None) -> None:
        for service in self._peers.apply(key, item):
            self._gateway.set_gateways(sum(self._peers.readiness(service).values()))

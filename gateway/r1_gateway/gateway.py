"""The door: which resource a request means, who asks, and what the gateway answers itself."""

from __future__ import annotations

import logging
import math
import os
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

import orjson

from r1_gateway.admission.classes import PriorityClass, UnknownClass, choose_class
from r1_gateway.admission.reservation_request import ReservationRequest
from r1_gateway.http.byte_budget import ByteBudget
from r1_gateway.http.completion_request import CompletionRequest, parse_completion, with_model
from r1_gateway.http.errors import ApiError, bad_request
from r1_gateway.http.exchange import Exchange
from r1_gateway.http.http_request import HttpRequest
from r1_gateway.http.response_head import CROSS_ORIGIN
from r1_gateway.http.upstream import ConnectionPool
from r1_gateway.routes.keys import ApiKey, KeyRing
from r1_gateway.routes.route import Route
from r1_gateway.routes.route_spec import ModelTable, RouteSpec, build_model_table

if TYPE_CHECKING:
    from r1_gateway.http.client_connection import ClientConnection

logger = logging.getLogger(__name__)

COMPLETIONS = (b"/v1/chat/completions", b"/v1/completions")
MODELS = b"/v1/models"
RETRY_AFTER_LIMITS = (1, 60)
# Half of the memory limit that the chart sets; the rest is for the process and for copies under way.
BUFFERED_BYTES = 256 << 20
PREFLIGHT_SECONDS = 86400
_MILLISECONDS = re.compile(rb"[0-9]{1,15}(\.[0-9]{0,15})?")
_FIELD_NAMES = re.compile(rb"[A-Za-z0-9_, -]{1,1024}")


class Gateway:
    """All routes, and the answer to every request."""

    def __init__(
        self,
        *,
        max_body_bytes: int = 8 << 20,
        max_buffered_bytes: int = BUFFERED_BYTES,
        on_end: Callable[[Exchange], None] | None = None,
        on_refused: Callable[[bytes, ApiError], None] | None = None,
    ) -> None:
        self.max_body_bytes = max_body_bytes
        self.budget = ByteBudget(max_buffered_bytes)
        self.connections = ConnectionPool()
        self.clients: set[ClientConnection] = set()
        self.routes: dict[str, Route] = {}
        self.models = ModelTable()
        self.keys: KeyRing | None = None
        self.gateways = 1
        self.closing = False
        self.refused: Counter[tuple[int, str]] = Counter()
        self.started_at = time.time()
        self.now = time.monotonic
        self._began = self.now()
        self._on_end = on_end
        self._on_refused = on_refused
        self._model_list: bytes | None = None
        self._pods: dict[str, Mapping[str, bool]] = {}
        self._id_prefix = os.urandom(6).hex().encode()
        self._requests = 0

    # -- what the world looks like -------------------------------------------------------------

    def set_routes(self, specs: Iterable[RouteSpec]) -> None:
        """Take over all routes, oldest first; those that are not among them end."""
        wanted = {spec.key: spec for spec in specs}
        for key in [key for key in self.routes if key not in wanted]:
            self.routes.pop(key).close()
        for key, spec in wanted.items():
            route = self.routes.get(key)
            if route is None:
                route = self.routes[key] = Route(spec, self.connections, self._on_end)
            elif route.spec == spec:
                continue
            route.update_spec(spec)
            route.update_pods(self._pods.get(key, {}), self.gateways)
        models = build_model_table(wanted.values())
        for conflict in set(models.conflicts) - set(self.models.conflicts):
            logger.warning("%s", conflict)
        self.models = models
        self._model_list = None

    def set_pods(self, key: str, readiness: Mapping[str, bool]) -> None:
        """Take over the pods of one route (address -> ready), known or not yet."""
        self._pods[key] = readiness
        if not readiness:
            del self._pods[key]
        route = self.routes.get(key)
        if route is not None:
            route.update_pods(readiness, self.gateways)

    def set_gateways(self, count: int) -> None:
        """Share the seats among ``count`` gateways."""
        count = max(1, count)
        if count != self.gateways:
            self.gateways = count
            for key, route in self.routes.items():
                route.update_pods(self._pods.get(key, {}), count)

    def advise(self, advice: ReservationRequest) -> None:
        """Take over an operator's advice for the routes that are known here."""
        until = self.now() + advice.valid_seconds
        for key, seats in advice.routes.items():
            route = self.routes.get(key)
            if route is not None:
                route.advise(seats, until)

    @property
    def uptime(self) -> float:
        """Seconds since the start, by the monotonic clock."""
        return self.now() - self._began

    @property
    def busy(self) -> int:
        """Requests that are waiting or running."""
        return sum(not client.is_idle for client in self.clients)

    # -- requests ------------------------------------------------------------------------------

    def serve(self, client: ClientConnection, request: HttpRequest) -> None:
        """Answer a request, now or when a pod has."""
        request_id = self.request_id(request.first)
        try:
            if request.target in COMPLETIONS or request.path in COMPLETIONS:
                self._serve_completion(client, request, request_id)
                return
            self._serve_models(client, request, request_id)
        except ApiError as error:
            self.refuse(error, request_id)
            client.write_error(error, _headers(client, request, request_id))
        client.exchange_done()

    def request_id(self, first: Mapping[bytes, bytes]) -> bytes:
        """The client's ``x-request-id`` when it is usable, else a new one."""
        self._requests += 1
        given = first.get(b"x-request-id")
        if given and len(given) <= 128 and given.isascii():
            return given
        return b"r1-%s-%x" % (self._id_prefix, self._requests)

    def _serve_completion(
        self, client: ClientConnection, request: HttpRequest, request_id: bytes
    ) -> None:
        if request.method != b"POST":
            if _is_preflight(request):
                _answer_preflight(client, request, request_id, b"POST")
                client.exchange_done()
                return
            raise _wrong_method(client, request, "POST")
        key = None if self.keys is None else self._authenticate(request)
        asked = parse_completion(request.body)
        route = self._find_route(asked)
        klass = route.spec.default_class
        priority = request.first.get(b"x-r1-priority")
        if priority is not None or key is not None:
            named = _CLASS_OF.get(priority) if key is None else None  # as it is mostly written
            klass = _class_asked_for(priority, key, klass) if named is None else named
        deadline = request.first.get(b"x-request-deadline-ms")
        patience = None if deadline is None else _patience(deadline)
        body = request.body
        request.body = b""  # the exchange keeps it no longer than it may need it
        if asked.model not in route.spec.models:  # namespace/name: the engine knows it by name
            body = with_model(body, route.spec.name)
        route.tally.offer(klass, asked.prompt_bytes, asked.max_tokens, asked.width)
        now = time.monotonic()
        exchange = Exchange(
            route,
            client,
            request,
            body,
            klass,
            request_id,
            asked.stream,
            self.keys is None,
            now,
            patience,
            asked.width,
        )
        route.admit(exchange, now, patience)

    def _authenticate(self, request: HttpRequest) -> ApiKey | None:
        if self.keys is None:
            return None
        key = self.keys.find(request.header(b"authorization"))
        if key is None:
            raise ApiError(
                401,
                "invalid_request_error",
                "invalid_api_key",
                "no or unknown API key: send 'Authorization: Bearer <key>'",
                headers=b"www-authenticate: Bearer\r\n",
            )
        return key

    def _find_route(self, asked: CompletionRequest) -> Route:
        key = self.models.routes.get(asked.model)
        if key is None:
            raise ApiError(
                404,
                "invalid_request_error",
                "model_not_found",
                f"the model {asked.model[:200]!r} does not exist; "
                "GET /v1/models lists those that do (kubectl get r1 shows their resources)",
                "model",
            )
        return self.routes[key]

    def _serve_models(
        self, client: ClientConnection, request: HttpRequest, request_id: bytes
    ) -> None:
        path = request.path
        if path != MODELS and not path.startswith(MODELS + b"/"):
            raise ApiError(
                404,
                "invalid_request_error",
                "unknown_url",
                "no such path; there are POST /v1/chat/completions, POST /v1/completions "
                "and GET /v1/models",
            )
        if request.method != b"GET":
            if _is_preflight(request):
                _answer_preflight(client, request, request_id, b"GET")
                return
            raise _wrong_method(client, request, "GET")
        self._authenticate(request)
        name = unquote_to_bytes(path[len(MODELS) + 1 :]).decode("utf-8", "replace")
        if name:
            self._find_route(CompletionRequest(name, False, 0, None))
            answer = orjson.dumps(self._model(name))
        else:
            answer = self._list_models()
        client.write_json(200, answer, _headers(client, request, request_id))

    def _model(self, name: str) -> dict[str, object]:
        return {
            "id": name,
            "object": "model",
            "created": int(self.started_at),
            "owned_by": self.models.routes[name],
        }

    def _list_models(self) -> bytes:
        """The list, built once per change of the routes."""
        if self._model_list is None:
            routes = self.models.routes
            shown = [  # namespace/name is listed where the plain name means another resource
                self._model(model)
                for model, owner in routes.items()
                if model != owner or routes[self.routes[owner].spec.name] != owner
            ]
            self._model_list = orjson.dumps({"object": "list", "data": shown})
        return self._model_list

    def refuse(self, error: ApiError, request_id: bytes) -> None:
        """Count and log a request that reached no route (bad, unauthorized, unknown model)."""
        self.refused[error.status, error.code] += 1
        if logger.isEnabledFor(logging.DEBUG):
            name = request_id.decode("ascii", "replace")
            logger.debug("request %s: %d %s: %s", name, error.status, error.code, error.message)
        if self._on_refused is not None:
            self._on_refused(request_id, error)

    def retry_after(self, error: ApiError) -> int | None:
        """Whole seconds of Retry-After: a client's own time, or within 20 % of a common one."""
        seconds = error.retry_after_seconds
        if seconds is None:
            return None
        if error.retry_is_exact:
            return round(seconds)
        low, high = RETRY_AFTER_LIMITS
        spread = random.uniform(0.8, 1.2)  # noqa: S311 - no secret
        return min(high, max(low, math.ceil(seconds * spread)))


_CLASS_OF: dict[bytes | None, PriorityClass] = {one.name.encode(): one for one in PriorityClass}


def _class_asked_for(
    priority: bytes | None, key: ApiKey | None, default: PriorityClass
) -> PriorityClass:
    """The class by header, key and route.

    Raises:
        ApiError: 400, no such class.
    """
    try:
        return choose_class(
            None if priority is None else priority.decode("latin-1"),
            route_default=default,
            key_default=key.default_class if key else None,
            key_limit=key.max_class if key else None,
        )
    except UnknownClass as error:
        raise bad_request(str(error), param="x-r1-priority", code="unknown_priority") from None


def _patience(value: bytes) -> float:
    """Seconds that the client gives the whole request, from ``x-request-deadline-ms``.

    Raises:
        ApiError: 400, not a positive number.
    """
    milliseconds = float(value) if _MILLISECONDS.fullmatch(value) else 0.0
    if milliseconds <= 0:
        raise bad_request(
            "x-request-deadline-ms must be a positive number of milliseconds",
            param="x-request-deadline-ms",
        )
    return milliseconds / 1000.0


def _wrong_method(client: ClientConnection, request: HttpRequest, allowed: str) -> ApiError:
    if request.method == b"HEAD":  # an error with a body would be read as the next answer
        client.close_after = True
    return ApiError(
        405,
        "invalid_request_error",
        "method_not_allowed",
        f"use {allowed} on this path",
        headers=b"allow: %s, OPTIONS\r\n" % allowed.encode(),
    )


def _headers(client: ClientConnection, request: HttpRequest, request_id: bytes) -> bytes:
    """Header lines of an answer of the gateway's own."""
    cross_origin = CROSS_ORIGIN if b"origin" in request.first else b""
    return b"x-request-id: %s\r\n%s%s" % (request_id, cross_origin, client.connection_header())


def _is_preflight(request: HttpRequest) -> bool:
    """A browser asks whether a page of another origin may send a request (CORS)."""
    first = request.first
    return (
        request.method == b"OPTIONS"
        and b"origin" in first
        and b"access-control-request-method" in first
    )


def _answer_preflight(
    client: ClientConnection, request: HttpRequest, request_id: bytes, method: bytes
) -> None:
    """Yes, for every origin: keys are sent in a header of the page's own, never by the browser."""
    names = request.first.get(b"access-control-request-headers", b"")
    if not _FIELD_NAMES.fullmatch(names):
        names = b"authorization, content-type"
    client.write(
        b"HTTP/1.1 204 No Content\r\naccess-control-allow-methods: %s, OPTIONS\r\n"
        b"access-control-allow-headers: %s\r\naccess-control-max-age: %d\r\n%s\r\n"
        % (method, names, PREFLIGHT_SECONDS, _headers(client, request, request_id))
    )

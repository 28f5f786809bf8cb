"""The door: which resource a request means, who asks, and what the gateway answers itself."""

from __future__ import annotations

import logging
import math
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import orjson

from r1_gateway.advice import Advice
from r1_gateway.classes import PriorityClass, UnknownClass, choose_class
from r1_gateway.completion_request import CompletionRequest, parse_completion, with_model
from r1_gateway.errors import ApiError, bad_request
from r1_gateway.exchange import Exchange
from r1_gateway.http_request import HttpRequest
from r1_gateway.keys import ApiKey, KeyRing
from r1_gateway.route import Route
from r1_gateway.route_spec import ModelTable, RouteSpec, build_model_table
from r1_gateway.upstream import ConnectionPool

if TYPE_CHECKING:
    from r1_gateway.client_connection import ClientConnection

logger = logging.getLogger(__name__)

COMPLETIONS = (b"/v1/chat/completions", b"/v1/completions")
MODELS = b"/v1/models"
RETRY_AFTER_LIMITS = (1, 60)


class Door:
    """All routes, and the answer to every request."""

    def __init__(
        self,
        *,
        max_body_bytes: int = 8 << 20,
        on_end: Callable[[Exchange], None] | None = None,
    ) -> None:
        self.max_body_bytes = max_body_bytes
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

    def advise(self, advice: Advice) -> None:
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
        self._requests += 1
        request_id = request.first.get(b"x-request-id")
        if request_id is None or len(request_id) > 128 or not request_id.isascii():
            request_id = b"r1-%s-%x" % (self._id_prefix, self._requests)
        try:
            if request.path in COMPLETIONS:
                self._serve_completion(client, request, request_id)
                return
            self._serve_models(client, request, request_id)
        except ApiError as error:
            self.count_refused(error)
            client.write_error(
                error, b"x-request-id: %s\r\n%s" % (request_id, client.connection_header())
            )
        client.exchange_done()

    def _serve_completion(
        self, client: ClientConnection, request: HttpRequest, request_id: bytes
    ) -> None:
        if request.method != b"POST":
            raise _wrong_method(client, request, "POST")
        key = None if self.keys is None else self._authenticate(request)
        asked = parse_completion(request.body)
        route = self._find_route(asked)
        klass = route.spec.default_class
        priority = request.first.get(b"x-r1-priority")
        if priority is not None or key is not None:
            klass = _class_asked_for(priority, key, klass)
        deadline = request.first.get(b"x-request-deadline-ms")
        patience = None if deadline is None else _patience(deadline)
        body = request.body
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
            raise _wrong_method(client, request, "GET")
        self._authenticate(request)
        created = int(self.started_at)
        models = {
            model: {"id": model, "object": "model", "created": created, "owned_by": owner}
            for model, owner in self.models.routes.items()
        }
        if path == MODELS:  # namespace/name is listed where the plain name means another resource
            shown = [
                models[model]
                for model, owner in self.models.routes.items()
                if model != owner or self.models.routes[self.routes[owner].spec.name] != owner
            ]
            answer: object = {"object": "list", "data": shown}
        else:
            name = path[len(MODELS) + 1 :].decode("latin-1").replace("%2F", "/")
            self._find_route(CompletionRequest(name, False, 0, None))
            answer = models[name]
        extra = b"x-request-id: %s\r\n%s" % (request_id, client.connection_header())
        client.write_json(200, orjson.dumps(answer), extra)

    def count_refused(self, error: ApiError) -> None:
        """Count a request that reached no route (bad, unauthorized, unknown model)."""
        self.refused[error.status, error.code] += 1

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
    """Seconds that the client will wait for a seat, from ``x-request-deadline-ms``.

    Raises:
        ApiError: 400, not a positive number.
    """
    try:
        milliseconds = float(value)
    except ValueError:
        milliseconds = math.nan
    if not (math.isfinite(milliseconds) and milliseconds > 0):
        raise bad_request(
            "x-request-deadline-ms must be a positive number of milliseconds",
            param="x-request-deadline-ms",
        )
    return milliseconds / 1000.0


def _wrong_method(client: ClientConnection, request: HttpRequest, allowed: str) -> ApiError:
    if request.method == b"HEAD":  # an error with a body would be read as the next answer
        client.close_after = True
    return ApiError(
        405, "invalid_request_error", "method_not_allowed", f"use {allowed} on this path"
    )

"""Request routing: model name to route, API key to class, and the gateway's own responses."""

from __future__ import annotations

import logging
import math
import os
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from urllib.parse import unquote_to_bytes

import orjson

from r1_common.contracts.priority_classes import PriorityClass, UnknownClass
from r1_common.contracts.route import RouteSpec
from r1_common.contracts.seat_reservations import ReservationRequest
from r1_gateway.admission.class_queue import ClassQueue, FifoQueue
from r1_gateway.admission.classes import choose_class
from r1_gateway.admission.fair_share_queue import FairShareQueue
from r1_gateway.http.byte_budget import ByteBudget
from r1_gateway.http.completion_request import parse_completion, with_model
from r1_gateway.http.errors import ApiError, bad_request, unavailable
from r1_gateway.http.http_request import HttpRequest
from r1_gateway.http.reply import Connection, Reply
from r1_gateway.http.response_head import CROSS_ORIGIN
from r1_gateway.http.upstream import ConnectionPool
from r1_gateway.routes.exchange import Exchange
from r1_gateway.routes.route import Route, RouteRequest
from r1_gateway.routes.route_spec import ModelTable, build_model_table
from r1_gateway.tenants.caller import ANONYMOUS, Caller
from r1_gateway.tenants.jwt_tokens import SigningKeysUnavailable, TokenVerifier
from r1_gateway.tenants.keys import KeyRing, bearer_token
from r1_gateway.tenants.limits import NO_LIMITS
from r1_gateway.tenants.prices import FREE
from r1_gateway.tenants.tenant_limiter import Charge, LimitReached, TenantLimiter
from r1_gateway.tenants.usage import UsageByTenant

logger = logging.getLogger(__name__)

COMPLETIONS = (b"/v1/chat/completions", b"/v1/completions")
MODELS = b"/v1/models"
RETRY_AFTER_LIMITS = (1, 60)
# Half of the chart's memory limit; the rest is for the process and for copies in progress.
BUFFERED_BYTES = 256 << 20
PREFLIGHT_SECONDS = 86400
_MILLISECONDS = re.compile(rb"[0-9]{1,15}(\.[0-9]{0,15})?")
_FIELD_NAMES = re.compile(rb"[A-Za-z0-9_, -]{1,1024}")


class Gateway:
    """All routes, the API keys, and the dispatch of every request."""

    def __init__(
        self,
        *,
        max_body_bytes: int = 8 << 20,
        max_buffered_bytes: int = BUFFERED_BYTES,
        fair_share: bool = False,
        on_end: Callable[[RouteRequest], None] | None = None,
        on_invalid: Callable[[bytes, ApiError, Caller | None], None] | None = None,
    ) -> None:
        """``fair_share``: tenants share each class; else a class is first come, first served."""
        self.max_body_bytes = max_body_bytes
        self.budget = ByteBudget(max_buffered_bytes)
        self.connections = ConnectionPool()
        self.clients: set[Connection] = set()
        self.routes: dict[str, Route] = {}
        self.models = ModelTable()
        self.keys: KeyRing | None = None
        self.tokens = TokenVerifier()
        self.limiter = TenantLimiter()
        self.usage = UsageByTenant()
        self._new_queue: Callable[[], ClassQueue[RouteRequest]] = (
            FairShareQueue if fair_share else FifoQueue
        )
        self.gateways = 1
        self.closing = False
        self.invalid_requests: Counter[tuple[int, str]] = Counter()
        self.started_at = time.time()
        self.now = time.monotonic
        self._began = self.now()
        self._on_end = on_end
        self._on_invalid = on_invalid
        self._listed: list[dict[str, object]] | None = None
        self._model_list = b""
        self._pods: dict[str, Mapping[str, bool]] = {}
        self._id_prefix = os.urandom(6).hex().encode()
        self._requests = 0

    # -- configuration ------------------------------------------------------------------------

    def set_routes(self, specs: Iterable[RouteSpec]) -> None:
        """Replace all routes, oldest first; a route that is missing is closed."""
        wanted = {spec.key: spec for spec in specs}
        for key in [key for key in self.routes if key not in wanted]:
            self.routes.pop(key).close()
        for key, spec in wanted.items():
            route = self.routes.get(key)
            if route is None:
                route = self.routes[key] = Route(
                    spec, self.connections, self._request_ended, self._new_queue
                )
            elif route.spec == spec:
                continue
            route.update_spec(spec)
            route.update_pods(self._pods.get(key, {}), self.gateways)
        models = build_model_table(wanted.values())
        for conflict in set(models.conflicts) - set(self.models.conflicts):
            logger.warning("%s", conflict)
        self.models = models
        self._listed = None

    def set_pods(self, key: str, readiness: Mapping[str, bool]) -> None:
        """Replace the pods of one route (address -> ready), known or not yet."""
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
            self.gateways = self.limiter.gateways = count
            for key, route in self.routes.items():
                route.update_pods(self._pods.get(key, {}), count)

    def reserve_seats(self, reservations: ReservationRequest) -> None:
        """Apply an operator's seat reservations to the routes that are known."""
        until = self.now() + reservations.valid_seconds
        for key, seats in reservations.routes.items():
            route = self.routes.get(key)
            if route is not None:
                route.reserve_seats(seats, until)

    @property
    def uptime(self) -> float:
        """Seconds since the start, by the monotonic clock."""
        return self.now() - self._began

    @property
    def busy(self) -> int:
        """Connections with a request that is arriving, queued or in flight."""
        return sum(not client.is_idle for client in self.clients)

    # -- requests ------------------------------------------------------------------------------

    def serve(self, reply: Reply, request: HttpRequest) -> None:
        """Answer a request, at once or through an exchange with a pod."""
        request_id = self.request_id(request.first)
        try:
            if request.target in COMPLETIONS or request.path in COMPLETIONS:
                self._serve_completion(reply, request, request_id)
                return
            self._serve_models(reply, request, request_id)
        except ApiError as error:
            caller = None
            with suppress(SigningKeysUnavailable):
                caller = self._find_caller(request)
            self.count_invalid(error, request_id, caller)
            reply.write_error(error, _headers(reply, request, request_id))
        reply.exchange_done()

    def request_id(self, first: Mapping[bytes, bytes]) -> bytes:
        """The client's ``x-request-id`` when it is usable, else a new one."""
        self._requests += 1
        given = first.get(b"x-request-id")
        if given and len(given) <= 128 and given.isascii():
            return given
        return b"r1-%s-%x" % (self._id_prefix, self._requests)

    def _serve_completion(self, reply: Reply, request: HttpRequest, request_id: bytes) -> None:
        if request.method != b"POST":
            if _is_preflight(request):
                _respond_to_preflight(reply, request, request_id, b"POST")
                reply.exchange_done()
                return
            raise _method_not_allowed(reply, request, "POST")
        caller = ANONYMOUS if self.keys is None else self._authenticate(request)
        completion = parse_completion(request.body)
        route = self._find_route(completion.model, caller)
        klass = route.spec.default_class
        priority = request.first.get(b"x-r1-priority")
        extra_headers = b""
        if caller is not ANONYMOUS:
            klass, extra_headers = _class_of_caller(priority, caller, klass)
        elif priority is not None:
            named = _CLASS_OF.get(priority)  # the usual spelling
            klass = _class_of_caller(priority, caller, klass)[0] if named is None else named
        deadline = request.first.get(b"x-request-deadline-ms")
        client_timeout = None if deadline is None else _client_timeout(deadline)
        body = request.body
        request.body = b""  # the exchange owns it and drops it as soon as no retry can need it
        if (
            completion.model not in route.spec.models
        ):  # namespace/name: the engine knows only the name
            body = with_model(body, route.spec.name)
        stats = route.stats
        tokens = stats.estimate(completion.prompt_bytes, completion.max_tokens, completion.width)
        now = time.monotonic()
        charge = None
        if caller.limits is not NO_LIMITS:
            charge = self._charge(caller, tokens, now)
            if charge is not None:
                extra_headers += charge.headers
        stats.offer(klass, tokens)
        exchange = Exchange(
            route,
            reply,
            request,
            body,
            klass,
            request_id,
            caller,
            completion.stream,
            self.keys is None,
            now,
            client_timeout,
            completion.width,
            completion.prompt_bytes >> 2,
            float(tokens),
            charge,
            extra_headers,
        )
        route.admit(exchange, now, client_timeout)

    def _charge(self, caller: Caller, tokens: int, now: float) -> Charge | None:
        try:
            return self.limiter.charge(caller, tokens, now)
        except LimitReached as refused:
            self.usage.of(caller.tenant).limited[refused.limit] += 1
            raise ApiError(
                429,
                refused.kind,
                "rate_limit_exceeded",
                refused.message,
                retry_after_seconds=refused.retry_after_seconds,
                retry_is_exact=True,
                headers=refused.headers,
            ) from None

    def _request_ended(self, request: RouteRequest) -> None:
        """Count a request that reached a route, for its tenant."""
        caller, (input_tokens, output_tokens) = request.caller, request.tokens
        if request.charge is not None:
            self.limiter.settle(request.charge, input_tokens + output_tokens, time.monotonic())
        price = FREE if self.keys is None else self.keys.prices.of(request.route.spec)
        self.usage.count(
            caller.tenant,
            request.klass,
            request.status,
            input_tokens,
            output_tokens,
            request.queue_seconds or 0.0,
            request.first_token_seconds,
            price.cost(input_tokens, output_tokens),
        )
        if self._on_end is not None:
            self._on_end(request)

    def _authenticate(self, request: HttpRequest) -> Caller:
        if self.keys is None:
            return ANONYMOUS
        try:
            caller = self._find_caller(request)
        except SigningKeysUnavailable:
            raise unavailable(
                "signing_keys_unavailable", "the keys of the token's issuer were not read yet", 2.0
            ) from None
        if caller is None:
            raise ApiError(
                401,
                "invalid_request_error",
                "invalid_api_key",
                "missing, unknown or expired API key: send 'Authorization: Bearer <key>'",
                headers=b"www-authenticate: Bearer\r\n",
            )
        return caller

    def _find_caller(self, request: HttpRequest) -> Caller | None:
        """The caller by its key or token; None for an unknown one."""
        authorization = request.first.get(b"authorization")
        if self.keys is None or authorization is None:
            return None
        caller = self.keys.find(authorization)
        if caller is None and self.keys.jwt is not None:
            token = bearer_token(authorization)
            return None if token is None else self.tokens.find(token)
        return caller

    def _find_route(self, model: str, caller: Caller) -> Route:
        key = self.models.routes.get(model)
        if key is None:
            raise ApiError(
                404,
                "invalid_request_error",
                "model_not_found",
                f"the model {model[:200]!r} does not exist: "
                "use one of GET /v1/models (kubectl get r1 lists their resources)",
                "model",
            )
        if caller.models is not None and not self._may_use(caller, model, key):
            raise ApiError(
                403,
                "invalid_request_error",
                "model_not_allowed",
                f"tenant {caller.tenant!r} may not use the model {model[:200]!r}: "
                "use one of GET /v1/models, or add it to 'models' in the keys file",
                "model",
            )
        return self.routes[key]

    def _may_use(self, caller: Caller, model: str, key: str) -> bool:
        """Whether any allowed name is the model's, or another name of the same resource ``key``."""
        models, routes = caller.models, self.models.routes
        return models is None or model in models or any(routes.get(m) == key for m in models)

    def _serve_models(self, reply: Reply, request: HttpRequest, request_id: bytes) -> None:
        path = request.path
        if path != MODELS and not path.startswith(MODELS + b"/"):
            raise ApiError(
                404,
                "invalid_request_error",
                "unknown_url",
                "unknown path: use POST /v1/chat/completions, POST /v1/completions "
                "or GET /v1/models",
            )
        if request.method != b"GET":
            if _is_preflight(request):
                _respond_to_preflight(reply, request, request_id, b"GET")
                return
            raise _method_not_allowed(reply, request, "GET")
        caller = self._authenticate(request)
        name = unquote_to_bytes(path[len(MODELS) + 1 :]).decode("utf-8", "replace")
        if name:
            self._find_route(name, caller)
            response = orjson.dumps(self._model(name))
        else:
            response = self._list_models(caller)
        reply.write_json(200, response, _headers(reply, request, request_id))

    def _model(self, name: str) -> dict[str, object]:
        return {
            "id": name,
            "object": "model",
            "created": int(self.started_at),
            "owned_by": self.models.routes[name],
        }

    def _list_models(self, caller: Caller) -> bytes:
        """The model list as JSON; that of all models is built once per change of the routes."""
        routes = self.models.routes
        if self._listed is None:  # list namespace/name only where the plain name is another's
            self._listed = [
                self._model(model)
                for model, owner in routes.items()
                if model != owner or routes[self.routes[owner].spec.name] != owner
            ]
            self._model_list = orjson.dumps({"object": "list", "data": self._listed})
        if caller.models is None:
            return self._model_list
        mine = [
            entry
            for entry in self._listed
            if self._may_use(caller, str(entry["id"]), str(entry["owned_by"]))
        ]
        return orjson.dumps({"object": "list", "data": mine})

    def count_invalid(
        self, error: ApiError, request_id: bytes, caller: Caller | None = None
    ) -> None:
        """Count and log a request that reached no route (malformed, unauthorized, over a limit)."""
        self.invalid_requests[error.status, error.code] += 1
        if logger.isEnabledFor(logging.DEBUG):
            name = request_id.decode("ascii", "replace")
            logger.debug(
                "request %s rejected: %d %s: %s", name, error.status, error.code, error.message
            )
        if self._on_invalid is not None:
            self._on_invalid(request_id, error, caller)

    def retry_after(self, error: ApiError) -> int | None:
        """Whole seconds of Retry-After: the exact time of one client, or a common one +-20 %."""
        seconds = error.retry_after_seconds
        if seconds is None:
            return None
        if error.retry_is_exact:
            return round(seconds)
        low, high = RETRY_AFTER_LIMITS
        spread = random.uniform(0.8, 1.2)  # noqa: S311 - no secret
        return min(high, max(low, math.ceil(seconds * spread)))


_CLASS_OF: dict[bytes | None, PriorityClass] = {one.name.encode(): one for one in PriorityClass}


def _class_of_caller(
    priority: bytes | None, caller: Caller, default: PriorityClass
) -> tuple[PriorityClass, bytes]:
    """Class of a request by its header, its caller and its route.

    The second value is a header line when the class in the header was lowered.

    Raises:
        ApiError: 400, unknown class.
    """
    try:
        klass = choose_class(
            None if priority is None else priority.decode("latin-1"),
            route_default=default,
            key_default=caller.default_class,
            key_limit=caller.max_class,
        )
    except UnknownClass as error:
        raise bad_request(str(error), param="x-r1-priority", code="unknown_priority") from None
    if priority is None or priority.strip().upper() == klass.name.encode():
        return klass, b""
    return klass, b"x-r1-requested-class: %s\r\n" % priority.strip().upper()


def _client_timeout(value: bytes) -> float:
    """Seconds until the client's deadline for the whole request (``x-request-deadline-ms``).

    Raises:
        ApiError: 400, not a positive number.
    """
    milliseconds = float(value) if _MILLISECONDS.fullmatch(value) else 0.0
    if milliseconds <= 0:
        raise bad_request(
            "x-request-deadline-ms must be a positive number of milliseconds, for example 5000",
            param="x-request-deadline-ms",
        )
    return milliseconds / 1000.0


def _method_not_allowed(reply: Reply, request: HttpRequest, allowed: str) -> ApiError:
    if request.method == b"HEAD":  # the client would read the body of an error as the next response
        reply.close_after = True
    return ApiError(
        405,
        "invalid_request_error",
        "method_not_allowed",
        f"this path supports {allowed} only",
        headers=b"allow: %s, OPTIONS\r\n" % allowed.encode(),
    )


def _headers(reply: Reply, request: HttpRequest, request_id: bytes) -> bytes:
    """Header lines of the gateway's own responses."""
    cross_origin = CROSS_ORIGIN if b"origin" in request.first else b""
    return b"x-request-id: %s\r\n%s%s" % (request_id, cross_origin, reply.connection_header())


def _is_preflight(request: HttpRequest) -> bool:
    """Whether this is a CORS preflight request of a browser."""
    first = request.first
    return (
        request.method == b"OPTIONS"
        and b"origin" in first
        and b"access-control-request-method" in first
    )


def _respond_to_preflight(
    reply: Reply, request: HttpRequest, request_id: bytes, method: bytes
) -> None:
    """Allow every origin: the page sends the key in a header, the browser sends no credentials."""
    names = request.first.get(b"access-control-request-headers", b"")
    if not _FIELD_NAMES.fullmatch(names):
        names = b"authorization, content-type"
    reply.write(
        b"HTTP/1.1 204 No Content\r\naccess-control-allow-methods: %s, OPTIONS\r\n"
        b"access-control-allow-headers: %s\r\naccess-control-max-age: %d\r\n%s\r\n"
        % (method, names, PREFLIGHT_SECONDS, _headers(reply, request, request_id))
    )

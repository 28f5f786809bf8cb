"""Routes and error handling, on aiohttp."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable

from aiohttp import web

from r1_runtime.errors import RequestError
from r1_runtime.server.auth import ApiKeys
from r1_runtime.server.endpoints import embeddings, generation, models, status
from r1_runtime.server.endpoints.common import SERVICE, answer_expect, error_response
from r1_runtime.server.endpoints.content_encoding import MAX_BODY_BYTES, too_large
from r1_runtime.server.service import Phase, Service

_KEYS = web.AppKey("keys", ApiKeys)
_log = logging.getLogger("r1_runtime")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def build_app(service: Service, api_keys: Iterable[str] = ()) -> web.Application:
    """The application of one served model.

    Args:
        service: the model.
        api_keys: keys of the endpoints under `/v1`; without one they are open.
    """
    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[_errors])
    app[SERVICE] = service
    app[_KEYS] = ApiKeys(api_keys)
    app.on_response_prepare.append(_close_if_last)
    gets: dict[str, Handler] = {
        "/health": status.health,
        "/ready": status.ready,
        "/metrics": status.metrics,
        "/version": status.version,
        "/load": status.load,
        "/openapi.json": status.openapi,
        "/is_sleeping": status.is_sleeping,
        "/v1/models": models.list_models,
        "/v1/models/{name:.+}": models.one_model,
        "/v1/responses/{id}": generation.stored_response,
    }
    posts: dict[str, Handler] = {
        "/v1/chat/completions": generation.chat,
        "/v1/completions": generation.completion,
        "/v1/responses": generation.responses,
        "/v1/embeddings": embeddings.embeddings,
        "/tokenize": models.tokenize,
        "/detokenize": models.detokenize,
        "/sleep": status.sleep,
        "/wake_up": status.wake_up,
    }
    for path, handler in gets.items():
        app.router.add_get(path, handler)
    for path, handler in posts.items():
        app.router.add_post(path, handler, expect_handler=answer_expect)
    return app


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Check the key, and convert every error to OpenAI's form, those of the framework included."""
    try:
        request.app[_KEYS].check(request.path, request.headers.get("Authorization"))
        return await handler(request)
    except RequestError as error:
        return error_response(error)
    except ConnectionError as error:
        # The client closed its connection. aiohttp logs a cancelled handler at debug level.
        raise asyncio.CancelledError from error
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return _framework_refusal(request, error)
    except Exception:  # noqa: BLE001
        _log.exception("%s %s failed", request.method, request.path)
        if request.writer.output_size:  # the head was sent: only closing the connection is left
            raise asyncio.CancelledError from None
        fault = RequestError("internal error", status=500, kind="server_error", code="error")
        return error_response(fault)


def _framework_refusal(request: web.Request, error: web.HTTPException) -> web.Response:
    """The response to a request that aiohttp refuses: its path, method or size."""
    if error.status == 413:
        return error_response(too_large())
    message = f"{request.method} {request.path[:200]}: {error.reason}"
    if error.status == 404:
        message += "; GET /openapi.json lists the endpoints"
    allowed = error.headers.get("Allow")
    if allowed is not None:
        message += f"; use {allowed}"
    refusal = error_response(RequestError(message, status=error.status))
    if allowed is not None:
        refusal.headers["Allow"] = allowed
    return refusal


async def _close_if_last(request: web.Request, response: web.StreamResponse) -> None:
    """Announce that the connection closes: while draining, and after a body that was not read.

    aiohttp closes a connection whose body it could not read. It has already prepared the headers;
    without this one, closing the connection fails the client's next request.
    """
    draining = request.app[SERVICE].phase is Phase.DRAINING
    unread = response.status >= 400 and not request.content.is_eof()
    if draining or unread or request.content.exception() is not None:
        response.force_close()
        response.headers["Connection"] = "close"

"""Routes and their handlers, on aiohttp.

A handler is cancelled when its client disconnects; leaving it releases the generation, and with it
whatever the engine still holds, for streams and for whole answers alike.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import orjson
from aiohttp import web

from r1_runtime.errors import RequestError
from r1_runtime.server.requests import (
    GenerationRequest,
    parse_chat,
    parse_completion,
    parse_urgency,
)
from r1_runtime.server.responses import Shape, Usage, error_object
from r1_runtime.server.service import Generation, Phase, Service, failure_of

_SERVICE = web.AppKey("service", Service)
_MAX_BODY_BYTES = 8 * 2**20
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def build_app(service: Service) -> web.Application:
    """The application of one served model."""
    app = web.Application(client_max_size=_MAX_BODY_BYTES, middlewares=[_errors])
    app[_SERVICE] = service
    app.on_response_prepare.append(_close_while_draining)
    app.router.add_get("/health", _health)
    app.router.add_get("/ready", _ready)
    app.router.add_get("/metrics", _metrics)
    app.router.add_get("/v1/models", _models)
    app.router.add_post("/v1/chat/completions", _chat)
    app.router.add_post("/v1/completions", _completion)
    return app


def _json(
    body: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None
) -> web.Response:
    return web.Response(
        body=orjson.dumps(body), status=status, content_type="application/json", headers=headers
    )


def _refusal(error: RequestError) -> web.Response:
    headers = None if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    return _json(error_object(error), error.status, headers)


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every refusal in OpenAI's form, those of the framework too."""
    try:
        return await handler(request)
    except RequestError as error:
        return _refusal(error)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        message = f"{request.method} {request.path}: {error.reason}"
        return _refusal(RequestError(message, status=error.status))


async def _close_while_draining(request: web.Request, response: web.StreamResponse) -> None:
    if request.app[_SERVICE].phase is Phase.DRAINING:
        # A kept connection would bring its next request here. aiohttp has prepared the headers
        # by now, and a connection that is closed unannounced fails the client's next request.
        response.force_close()
        response.headers["Connection"] = "close"


async def _health(request: web.Request) -> web.Response:
    alive = request.app[_SERVICE].alive
    return _json({"status": "ok" if alive else "the engine has stopped"}, 200 if alive else 503)


async def _ready(request: web.Request) -> web.Response:
    phase = request.app[_SERVICE].phase
    return _json({"phase": phase.value}, 200 if phase is Phase.READY else 503)


async def _metrics(request: web.Request) -> web.Response:
    body = request.app[_SERVICE].metrics.render()
    return web.Response(body=body, headers={"Content-Type": "text/plain; version=0.0.4"})


async def _models(request: web.Request) -> web.Response:
    service = request.app[_SERVICE]
    length = service.limits.max_model_len if service.limits else None
    models = [
        {"id": name, "object": "model", "created": 0, "owned_by": "r1", "root": service.names[0]}
        | ({"max_model_len": length} if length else {})
        for name in service.names
    ]
    return _json({"object": "list", "data": models})


async def _chat(request: web.Request) -> web.StreamResponse:
    return await _generate(request, parse_chat(await _body(request)), "chatcmpl-")


async def _completion(request: web.Request) -> web.StreamResponse:
    return await _generate(request, parse_completion(await _body(request)), "cmpl-")


async def _body(request: web.Request) -> object:
    try:
        return orjson.loads(await request.read())
    except orjson.JSONDecodeError as error:
        raise RequestError(f"the body is not JSON: {error}") from error


async def _generate(
    request: web.Request, wanted: GenerationRequest, prefix: str
) -> web.StreamResponse:
    service = request.app[_SERVICE]
    urgency = parse_urgency(request.headers.get("x-r1-priority"))
    generation = service.admit(replace(wanted, urgency=urgency), prefix)
    shape = Shape(generation.id, wanted.model, int(time.time()), chat=wanted.messages is not None)
    try:
        if wanted.stream:
            return await _stream(request, service, generation, shape, wanted.include_usage)
        answer = await _whole(service, generation, shape)
        # Written before the release: a drain that ends now would cut what aiohttp writes later.
        await answer.prepare(request)
        await answer.write_eof()
        return answer
    finally:
        service.release(generation)


async def _whole(service: Service, generation: Generation, shape: Shape) -> web.Response:
    text: list[str] = []
    async for output in service.outputs(generation):
        text.append(output.text)
        failure = failure_of(output)
        if failure is not None:
            raise failure
        if output.finish is not None:
            usage = Usage(generation.prompt_tokens, output.generated)
            return _json(shape.whole("".join(text), output.finish.value, usage))
    raise AssertionError("an output stream ended without a finish")


async def _stream(
    request: web.Request,
    service: Service,
    generation: Generation,
    shape: Shape,
    include_usage: bool,
) -> web.StreamResponse:
    response = web.StreamResponse(
        headers={"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"}
    )
    await response.prepare(request)
    opening = shape.opening()
    if opening is not None:
        await response.write(_event(opening))
    async for output in service.outputs(generation):
        failure = failure_of(output)
        if failure is not None:
            await response.write(_event(error_object(failure)))
            break
        finish = None if output.finish is None else output.finish.value
        if output.text or finish:
            await response.write(_event(shape.piece(output.text, finish)))
        if finish and include_usage:
            usage = Usage(generation.prompt_tokens, output.generated)
            await response.write(_event(shape.closing(usage)))
    await response.write(b"data: [DONE]\n\n")
    await response.write_eof()
    return response


def _event(body: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(body) + b"\n\n"

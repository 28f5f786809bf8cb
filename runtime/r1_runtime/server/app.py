"""HTTP routes and handlers, on aiohttp.

aiohttp cancels a handler when its client disconnects. The end of the handler releases the generation
and its cache blocks, for streams and for full responses.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any

import orjson
from aiohttp import HttpVersion11, web
from aiohttp.http_exceptions import ContentEncodingError, PayloadEncodingError

from r1_runtime.engine.messages import Output
from r1_runtime.errors import RequestError
from r1_runtime.generation_config import GenerationDefaults
from r1_runtime.server.requests import (
    GenerationRequest,
    parse_chat,
    parse_completion,
    parse_priority,
)
from r1_runtime.server.responses import ResponseBuilder, Usage, error_object
from r1_runtime.server.service import Generation, Phase, Service, failure_of, model_not_found

_SERVICE = web.AppKey("service", Service)
_MAX_BODY_BYTES = 8 * 2**20
_INLINE_BYTES = 64 * 2**10  # bodies up to here are parsed in the event loop
_ENCODINGS = frozenset({"identity", "gzip", "deflate"})
_log = logging.getLogger("r1_runtime")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Parse = Callable[[object, GenerationDefaults], GenerationRequest]


def build_app(service: Service) -> web.Application:
    """The application of one served model."""
    app = web.Application(client_max_size=_MAX_BODY_BYTES, middlewares=[_errors])
    app[_SERVICE] = service
    app.on_response_prepare.append(_close_while_draining)
    app.router.add_get("/health", _health)
    app.router.add_get("/ready", _ready)
    app.router.add_get("/metrics", _metrics)
    app.router.add_get("/v1/models", _models)
    app.router.add_get("/v1/models/{name:.+}", _one_model)
    app.router.add_post("/v1/chat/completions", _chat, expect_handler=_expect)
    app.router.add_post("/v1/completions", _completion, expect_handler=_expect)
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
    """Convert every error to OpenAI's form, those of the framework included."""
    try:
        return await handler(request)
    except RequestError as error:
        return _refusal(error)
    except ConnectionError as error:
        # The client closed its connection. aiohttp logs a cancelled handler at debug level.
        raise asyncio.CancelledError from error
    except web.HTTPException as error:
        if error.status < 400:
            raise
        message = f"{request.method} {request.path}: {error.reason}"
        refusal = _refusal(RequestError(message, status=error.status))
        if "Allow" in error.headers:
            refusal.headers["Allow"] = error.headers["Allow"]
        return refusal
    except Exception:  # noqa: BLE001
        _log.exception("%s %s failed", request.method, request.path)
        if request.writer.output_size:  # the head was sent: only closing the connection is left
            raise asyncio.CancelledError from None
        fault = RequestError("internal error", status=500, kind="server_error", code="error")
        return _refusal(fault)


async def _close_while_draining(request: web.Request, response: web.StreamResponse) -> None:
    if request.app[_SERVICE].phase is Phase.DRAINING:
        # The next request of a kept-alive connection would come here. aiohttp has already prepared
        # the headers; without this one, closing the connection fails the client's next request.
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
    models = [_model_object(service, name) for name in service.names]
    return _json({"object": "list", "data": models})


async def _one_model(request: web.Request) -> web.Response:
    service = request.app[_SERVICE]
    name = request.match_info["name"]
    if name not in service.names:
        raise model_not_found(name, service.names)
    return _json(_model_object(service, name))


def _model_object(service: Service, name: str) -> dict[str, Any]:
    model = {"id": name, "object": "model", "created": 0, "owned_by": "r1"}
    length = {} if service.limits is None else {"max_model_len": service.limits.max_model_len}
    return model | {"root": service.names[0]} | length


async def _chat(request: web.Request) -> web.StreamResponse:
    return await _generate(request, parse_chat, "chatcmpl-")


async def _completion(request: web.Request) -> web.StreamResponse:
    return await _generate(request, parse_completion, "cmpl-")


async def _expect(request: web.Request) -> web.StreamResponse | None:
    """The interim response to `Expect: 100-continue`; aiohttp rejects others in plain text."""
    if request.headers["Expect"].strip().lower() != "100-continue":
        return _refusal(
            RequestError("Expect: only 100-continue is supported", status=417, param="Expect")
        )
    if request.version >= HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the response's head has not been written yet
    return None


async def _body(request: web.Request) -> bytes:
    """The decompressed request body.

    Raises:
        RequestError: 400, the body does not match Content-Encoding; 415, unknown encoding.
    """
    header = ",".join(request.headers.getall("Content-Encoding", []))
    encoding = header.strip().lower() or "identity"
    if encoding not in _ENCODINGS:
        raise RequestError(
            f"Content-Encoding {encoding[:40]!r} is not supported; use one of "
            f"{', '.join(sorted(_ENCODINGS))}",
            status=415,
            param="Content-Encoding",
        )
    try:
        return await request.read()
    except (web.RequestPayloadError, PayloadEncodingError, ContentEncodingError) as error:
        raise RequestError(
            f"the body cannot be decoded with Content-Encoding {encoding}", param="Content-Encoding"
        ) from error


def _parsed(body: bytes, parse: Parse, defaults: GenerationDefaults) -> GenerationRequest:
    try:
        return parse(orjson.loads(body), defaults)
    except orjson.JSONDecodeError as error:
        raise RequestError(f"the body is not JSON: {error}") from error


async def _generate(request: web.Request, parse: Parse, prefix: str) -> web.StreamResponse:
    service = request.app[_SERVICE]
    priority = parse_priority(request.headers.get("x-r1-priority"))
    body = await _body(request)
    size = len(body)
    work = partial(_parsed, body, parse, service.defaults)
    parsed = await service.threads.run(size, work) if size > _INLINE_BYTES else work()
    del body, work
    generation = await service.admit(replace(parsed, priority=priority), prefix, size)
    builder = ResponseBuilder(
        generation.id, parsed.model, int(time.time()), chat=parsed.messages is not None
    )
    try:
        if parsed.stream:
            return await _stream(request, service, generation, builder, parsed.include_usage)
        response = await _full(service, generation, builder)
        # Written before the release: a drain that ends now would cut off a later write.
        await response.prepare(request)
        await response.write_eof()
        return response
    finally:
        service.release(generation)


async def _full(service: Service, generation: Generation, builder: ResponseBuilder) -> web.Response:
    text: list[str] = []
    async for output in service.outputs(generation):
        text.append(output.text)
        failure = failure_of(output)
        if failure is not None:
            raise failure
        if output.finish is not None:
            usage = Usage(generation.prompt_tokens, output.generated)
            return _json(builder.full("".join(text), output.finish.value, usage))
    raise AssertionError("an output stream ended without a finish")


async def _stream(
    request: web.Request,
    service: Service,
    generation: Generation,
    builder: ResponseBuilder,
    include_usage: bool,
) -> web.StreamResponse:
    """A stream of server-sent events; its head is written with the first token.

    An error before the first token therefore has an HTTP status of its own, and the first byte marks
    the time to first token for clients and gateways.
    """
    outputs = service.outputs(generation)
    output = await anext(outputs)
    failure = failure_of(output)
    if failure is not None:
        raise failure
    response = web.StreamResponse(
        headers={
            "Content-Type": "text/event-stream; charset=utf-8",
            "Cache-Control": "no-cache",
            "X-Accel-Buffering": "no",
        }
    )
    await response.prepare(request)
    first_chunk = builder.first_chunk()
    if first_chunk is not None:
        await response.write(_event(first_chunk))
    await _write_output(response, output, generation, builder, include_usage)
    async for output in outputs:
        failure = failure_of(output)
        if failure is not None:
            await response.write(_event(error_object(failure)))
            break
        await _write_output(response, output, generation, builder, include_usage)
    await response.write(b"data: [DONE]\n\n")
    await response.write_eof()
    return response


async def _write_output(
    response: web.StreamResponse,
    output: Output,
    generation: Generation,
    builder: ResponseBuilder,
    include_usage: bool,
) -> None:
    finish = None if output.finish is None else output.finish.value
    if output.text or finish:
        await response.write(_event(builder.text_chunk(output.text, finish)))
    if finish and include_usage:
        usage = Usage(generation.prompt_tokens, output.generated)
        await response.write(_event(builder.usage_chunk(usage)))


def _event(body: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(body) + b"\n\n"

"""What all handlers use: the service of an application, request bodies, JSON responses."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import orjson
from aiohttp import HttpVersion11, web
from aiohttp.http_exceptions import ContentEncodingError, PayloadEncodingError

from r1_runtime.errors import RequestError
from r1_runtime.server.http_errors import error_object
from r1_runtime.server.service import Service

SERVICE = web.AppKey("service", Service)
_INLINE_BYTES = 64 * 2**10  # bodies up to here are parsed in the event loop
_ENCODINGS = frozenset({"identity", "gzip", "deflate"})
_T = TypeVar("_T")


def json_response(
    body: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None
) -> web.Response:
    return web.Response(
        body=orjson.dumps(body), status=status, content_type="application/json", headers=headers
    )


def error_response(error: RequestError) -> web.Response:
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return json_response(error_object(error), error.status, headers)


async def answer_expect(request: web.Request) -> web.StreamResponse | None:
    """The interim response to `Expect: 100-continue`; aiohttp rejects others in plain text."""
    if request.headers["Expect"].strip().lower() != "100-continue":
        return error_response(
            RequestError("Expect: only 100-continue is supported", status=417, param="Expect")
        )
    if request.version >= HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the response's head has not been written yet
    return None


async def parsed_body(request: web.Request, parse: Callable[[object], _T]) -> tuple[_T, int]:
    """The parsed body and its size in bytes; a long body is parsed outside of the event loop.

    Raises:
        RequestError: 400: no JSON, an invalid field, or not encoded as it says; 415.
    """
    body = await _read(request)
    size = len(body)
    work = partial(_parse, body, parse)
    if size > _INLINE_BYTES:
        return await request.app[SERVICE].threads.run(size, work), size
    return work(), size


async def _read(request: web.Request) -> bytes:
    """The decompressed request body."""
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


def _parse(body: bytes, parse: Callable[[object], _T]) -> _T:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestError(f"the body is not JSON: {error}") from error
    return parse(value)

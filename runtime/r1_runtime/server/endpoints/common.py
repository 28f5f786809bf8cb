"""What all handlers use: the service of an application, request bodies, JSON responses."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import orjson
from aiohttp import HttpVersion11, web

from r1_runtime.errors import RequestError
from r1_runtime.server.api.json_body import read_json
from r1_runtime.server.endpoints.content_encoding import content_encoding, decoded
from r1_runtime.server.http_errors import error_object
from r1_runtime.server.service import Service

SERVICE = web.AppKey("service", Service)
_INLINE_BYTES = 64 * 2**10  # bodies up to here are parsed in the event loop
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


def renamed(error: RequestError, name: str, field: str) -> RequestError:
    """An error of the field `name`, under the name `field` that it has in this endpoint's body."""
    if error.param != name:
        return error
    return RequestError(
        str(error).replace(name, field, 1),
        status=error.status,
        kind=error.kind,
        param=field,
        code=error.code,
        retry_after=error.retry_after,
    )


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
    """The parsed body and its decompressed size in bytes. A long or compressed body is parsed outside of
    the event loop.

    Raises:
        RequestError: 400: no JSON, an invalid field, or not encoded as it says; 415.
    """
    encoding = content_encoding(request.headers.getall("Content-Encoding", []))
    body = await request.read()
    work = partial(_parse, body, encoding, parse, request.content_type)
    if len(body) > _INLINE_BYTES or encoding != "identity":
        return await request.app[SERVICE].threads.run(len(body), work)
    return work()


def _parse(
    body: bytes, encoding: str, parse: Callable[[object], _T], content_type: str
) -> tuple[_T, int]:
    plain = decoded(body, encoding)
    return parse(read_json(plain, content_type)), len(plain)

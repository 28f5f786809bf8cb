"""OpenAI-style JSON errors for requests that aiohttp rejects before a handler runs.

These are malformed heads and chunks. aiohttp has no public hook for them: its protocol class responds in plain text and logs a traceback for each.
"""

from __future__ import annotations

from typing import Any

import orjson
from aiohttp import ClientPayloadError, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestHandler

from r1_runtime.errors import RequestError

_CLIENT_FAULTS = (HttpProcessingError, ClientPayloadError, web.RequestPayloadError, ConnectionError)


def error_object(error: RequestError) -> dict[str, Any]:
    """OpenAI's error object."""
    return {
        "error": {
            "message": str(error),
            "type": error.kind,
            "param": error.param,
            "code": error.code,
        }
    }


class JsonErrorRunner(web.AppRunner):
    """An application runner whose connections report every error as JSON.

    The bodies of its requests are not decompressed.
    """

    def __init__(self, app: web.Application, **options: Any) -> None:
        super().__init__(app, auto_decompress=False, **options)

    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        server.__class__ = _JsonErrorServer
        return server


class _JsonErrorServer(web.Server):
    def __call__(self) -> RequestHandler:
        return _JsonErrorHandler(self, loop=self._loop, **self._kwargs)


class _JsonErrorHandler(RequestHandler):
    __slots__ = ()

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Log a client error at debug level; aiohttp logs it as a server error."""
        error = kw.get("exc_info")
        if isinstance(error, _CLIENT_FAULTS):
            self.log_debug("client error: %s", " ".join(str(error).split())[:200])
        else:
            super().log_exception(*args, **kw)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if status >= 500:
            self.log_exception("%s %s failed", request.method, request.path, exc_info=exc)
            error = RequestError("internal error", status=status, kind="server_error", code="error")
        else:
            reason = " ".join((message or "").split())[:200]
            error = RequestError(f"the request is not valid HTTP: {reason}", status=status)
        if request.writer.output_size > 0:
            raise ConnectionError("the response has started: no error response can follow")
        response = web.Response(
            body=orjson.dumps(error_object(error)),
            status=error.status,
            content_type="application/json",
        )
        response.force_close()
        return response

"""State of the server: `/health`, `/ready`, `/metrics`, `/version`, `/load`, `/openapi.json`."""

from __future__ import annotations

from importlib import metadata

from aiohttp import web

from r1_runtime.server.api.openapi import openapi_document
from r1_runtime.server.endpoints.common import SERVICE, json_response
from r1_runtime.server.service import Phase

_DISTRIBUTION = "r1-inference-operator"


async def health(request: web.Request) -> web.Response:
    alive = request.app[SERVICE].alive
    body = {"status": "ok" if alive else "the engine has stopped"}
    return json_response(body, 200 if alive else 503)


async def ready(request: web.Request) -> web.Response:
    phase = request.app[SERVICE].phase
    return json_response({"phase": phase.value}, 200 if phase is Phase.READY else 503)


async def metrics(request: web.Request) -> web.Response:
    body = request.app[SERVICE].metrics.render()
    return web.Response(body=body, headers={"Content-Type": "text/plain; version=0.0.4"})


def package_version() -> str:
    """The version of this package; 0 where it runs without being installed."""
    try:
        return metadata.version(_DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "0"


async def version(request: web.Request) -> web.Response:
    return json_response({"version": package_version()})


async def load(request: web.Request) -> web.Response:
    """vLLM's measure of load: requests in flight."""
    return json_response({"server_load": request.app[SERVICE].in_flight})


async def openapi(request: web.Request) -> web.Response:
    return json_response(openapi_document(package_version()))

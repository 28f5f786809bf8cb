"""State of the server: `/health`, `/ready`, `/metrics`, `/version`, `/load`, `/openapi.json`."""

from __future__ import annotations

from importlib import metadata

from aiohttp import web

from r1_runtime.server.api.fields import bad_field
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


async def sleep(request: web.Request) -> web.Response:
    """Free memory: `level` 1 for the cache, 2 for the weights too; `mode` is `abort` or `wait`."""
    level, mode = request.query.get("level", "1"), request.query.get("mode", "abort")
    if level not in ("1", "2"):
        raise bad_field("level", f"level is {level[:40]!r}; it must be 1 or 2")
    if mode not in ("abort", "wait"):
        raise bad_field("mode", f"mode is {mode[:40]!r}; it must be abort or wait")
    await request.app[SERVICE].sleep(int(level), wait=mode == "wait")
    return web.Response()


async def wake_up(request: web.Request) -> web.Response:
    await request.app[SERVICE].wake_up()
    return web.Response()


async def is_sleeping(request: web.Request) -> web.Response:
    return json_response({"is_sleeping": request.app[SERVICE].phase is Phase.SLEEPING})


async def openapi(request: web.Request) -> web.Response:
    # Imported by the first request for it: serving needs no document.
    from r1_runtime.server.api.openapi import openapi_document

    return json_response(openapi_document(package_version(), request.app[SERVICE].names))

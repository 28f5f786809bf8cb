"""The second listener: health, metrics, signals, advice.  Never on the path of a request."""

from __future__ import annotations

import json
from collections.abc import Callable

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from r1_gateway.advice import InvalidAdvice, parse_advice
from r1_gateway.door import Door
from r1_gateway.signals import build_signals


def build_admin(
    door: Door,
    registry: CollectorRegistry,
    gateway: str,
    unready_because: Callable[[], str | None],
) -> web.Application:
    """The admin application; ``unready_because`` says why no request should come here, or None."""

    async def healthz(request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(request: web.Request) -> web.Response:
        why = unready_because()
        return web.Response(text="ok\n" if why is None else why + "\n", status=503 if why else 200)

    async def signals(request: web.Request) -> web.Response:
        return web.json_response(build_signals(door, gateway), dumps=json.dumps)

    async def metrics(request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(registry), headers={"Content-Type": content_type})

    async def holdback(request: web.Request) -> web.Response:
        try:
            advice = parse_advice(await request.read())
        except InvalidAdvice as error:
            return web.json_response({"error": str(error)}, status=400)
        door.advise(advice)
        return web.Response(status=204)

    application = web.Application()
    application.router.add_get("/healthz", healthz)
    application.router.add_get("/readyz", readyz)
    application.router.add_get("/signals", signals)
    application.router.add_get("/metrics", metrics)
    application.router.add_put("/holdback", holdback)
    return application

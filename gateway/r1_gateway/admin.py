"""Admin listener: health, metrics, signals and seat reservations.

With a token file, all but the probes need ``Authorization: Bearer TOKEN``.

``/healthz`` returns 200 as long as the process serves, and lists failing background tasks.  A restart
for one invalid object would be an outage of all routes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from r1_common.contracts.seat_reservations import InvalidReservation, parse_reservations
from r1_common.token_file import InvalidToken, is_authorized, read_token
from r1_gateway.gateway import Gateway
from r1_gateway.telemetry.metrics import CONTENT_TYPE, MetricsPage
from r1_gateway.telemetry.signals import render_signals

logger = logging.getLogger(__name__)

PROBES = ("/healthz", "/readyz")


def build_admin(
    gateway: Gateway,
    page: MetricsPage,
    name: str,
    not_ready_reason: Callable[[], str | None],
    failing: Callable[[], list[str]],
    token_file: Path | None = None,
) -> web.Application:
    """The admin application.

    ``not_ready_reason`` returns the reason for a failed readiness probe, or None; ``failing`` a line
    for each background task that failed recently.
    """

    async def healthz(request: web.Request) -> web.Response:
        return web.Response(text="\n".join(["ok", *failing()]) + "\n")

    async def readyz(request: web.Request) -> web.Response:
        reason = not_ready_reason()
        return web.Response(text=f"{reason or 'ok'}\n", status=503 if reason else 200)

    async def signals(request: web.Request) -> web.Response:
        body = await render_signals(gateway, name)
        return web.Response(body=body, content_type="application/json")

    async def metrics(request: web.Request) -> web.Response:
        return web.Response(body=await page.render(), headers={"Content-Type": CONTENT_TYPE})

    async def seat_reservations(request: web.Request) -> web.Response:
        try:
            reservations = parse_reservations(await request.read())
        except InvalidReservation as error:
            return web.json_response({"error": str(error)}, status=400)
        gateway.reserve_seats(reservations)
        return web.Response(status=204)

    application = web.Application(
        middlewares=[] if token_file is None else [_require_token(token_file)]
    )
    application.router.add_get("/healthz", healthz)
    application.router.add_get("/readyz", readyz)
    application.router.add_get("/signals", signals)
    application.router.add_get("/metrics", metrics)
    application.router.add_put("/seat-reservations", seat_reservations)
    return application


def _require_token(path: Path) -> Middleware:
    """Answer 401 without the token in the file; an unusable file lets only the probes pass."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path in PROBES:
            return await handler(request)
        try:
            authorized = is_authorized(request.headers.get("Authorization"), read_token(path))
        except InvalidToken as error:
            logger.error("the admin token cannot be used: %s", error)
            authorized = False
        if authorized:
            return await handler(request)
        return web.json_response(
            {"error": "send 'Authorization: Bearer TOKEN' with the token of --admin-token-file"},
            status=401,
            headers={"WWW-Authenticate": "Bearer"},
        )

    return check

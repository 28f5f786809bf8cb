"""Admin listener: health, metrics, signals and seat reservations.

``/healthz`` returns 200 as long as the process serves, and lists failing background tasks.  A restart
for one invalid object would be an outage of all routes.
"""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from r1_common.contracts.seat_reservations import InvalidReservation, parse_reservations
from r1_gateway.gateway import Gateway
from r1_gateway.telemetry.metrics import CONTENT_TYPE, MetricsPage
from r1_gateway.telemetry.signals import render_signals


def build_admin(
    gateway: Gateway,
    page: MetricsPage,
    name: str,
    not_ready_reason: Callable[[], str | None],
    failing: Callable[[], list[str]],
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

    application = web.Application()
    application.router.add_get("/healthz", healthz)
    application.router.add_get("/readyz", readyz)
    application.router.add_get("/signals", signals)
    application.router.add_get("/metrics", metrics)
    application.router.add_put("/seat-reservations", seat_reservations)
    return application

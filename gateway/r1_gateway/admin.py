"""The second listener: health, metrics, signals, advice.  Never on the path of a request.

``/healthz`` answers 200 as long as the process serves, and names background tasks that fail.  A
kubelet that restarted the gateway for one bad object would turn it into an outage of all routes.
"""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from r1_gateway.admission.reservation_request import InvalidReservation, parse_reservations
from r1_gateway.gateway import Gateway
from r1_gateway.telemetry.metrics import CONTENT_TYPE, MetricsPage
from r1_gateway.telemetry.signals import render_signals


def build_admin(
    door: Gateway,
    page: MetricsPage,
    gateway: str,
    unready_because: Callable[[], str | None],
    failing: Callable[[], list[str]],
) -> web.Application:
    """The admin application.

    ``unready_because`` gives the reason why no request should come here, or None; ``failing`` a line
    for each background task that failed lately.
    """

    async def healthz(request: web.Request) -> web.Response:
        return web.Response(text="\n".join(["ok", *failing()]) + "\n")

    async def readyz(request: web.Request) -> web.Response:
        why = unready_because()
        return web.Response(text="ok\n" if why is None else why + "\n", status=503 if why else 200)

    async def signals(request: web.Request) -> web.Response:
        body = await render_signals(door, gateway)
        return web.Response(body=body, content_type="application/json")

    async def metrics(request: web.Request) -> web.Response:
        return web.Response(body=await page.render(), headers={"Content-Type": CONTENT_TYPE})

    async def holdback(request: web.Request) -> web.Response:
        try:
            advice = parse_reservations(await request.read())
        except InvalidReservation as error:
            return web.json_response({"error": str(error)}, status=400)
        door.advise(advice)
        return web.Response(status=204)

    application = web.Application()
    application.router.add_get("/healthz", healthz)
    application.router.add_get("/readyz", readyz)
    application.router.add_get("/signals", signals)
    application.router.add_get("/metrics", metrics)
    application.router.add_put("/seat-reservations", holdback)
    return application

"""The doors, opened and closed with the forecaster's own."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import AsyncIterator, Callable

from aiohttp import web

from r1_common.supervision import Supervisor
from r1_forecasting.published.catalogue_file import CatalogueFile
from r1_forecasting.published.external_metrics_api import ExternalMetricsApi
from r1_forecasting.published.publisher import ForecastSource, Publisher
from r1_forecasting.published.service_account import ServiceAccount
from r1_forecasting.published.tls_listener import TlsListener


def start_listeners(
    app: web.Application,
    answers: ForecastSource,
    options: argparse.Namespace,
    supervisor: Supervisor,
) -> None:
    """Open what ``options`` ask for when ``app`` starts. Raises ``Unreadable`` outside a pod."""
    publisher = Publisher(answers)
    if options.keda_port is not None:
        app.cleanup_ctx.append(_keda(publisher, options.host, options.keda_port))
    if options.external_metrics_port is not None:
        account = ServiceAccount.of_pod(options.service_account)
        door = TlsListener(
            options.host,
            options.external_metrics_port,
            options.external_metrics_tls,
            account.fetch_front_proxy,
        )
        app.cleanup_ctx.append(_external_metrics(publisher, door, options.published, supervisor))


def _keda(
    publisher: Publisher, host: str, port: int
) -> Callable[[web.Application], AsyncIterator[None]]:
    async def run(_: web.Application) -> AsyncIterator[None]:
        # gRPC takes memory and a moment to load, and most installations have no KEDA.
        from r1_forecasting.published.keda import KedaScaler, start_keda_listener

        server, _bound = await start_keda_listener(KedaScaler(publisher), host, port)
        with contextlib.suppress(GeneratorExit):
            yield
        await server.stop(1.0)

    return run


def _external_metrics(
    publisher: Publisher, door: TlsListener, listed: CatalogueFile, supervisor: Supervisor
) -> Callable[[web.Application], AsyncIterator[None]]:
    async def run(_: web.Application) -> AsyncIterator[None]:
        api = ExternalMetricsApi(publisher, lambda: listed.catalogue, lambda: door.trust)
        # An application can be served once only: each start of the task builds its own.
        supervisor.start("external metrics port", lambda: door.follow(api.application()))
        supervisor.start("published forecasts file", listed.follow)
        with contextlib.suppress(GeneratorExit):
            yield
        await supervisor.stop()

    return run

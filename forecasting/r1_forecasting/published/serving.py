"""Start and stop of the listeners for other autoscalers."""

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
    source: ForecastSource,
    options: argparse.Namespace,
    supervisor: Supervisor,
) -> None:
    """Start the configured listeners with ``app``; raises `FrontProxyUnavailable` outside a pod."""
    publisher = Publisher(source)
    if options.keda_port is not None:
        app.cleanup_ctx.append(_keda(publisher, options.host, options.keda_port))
    if options.external_metrics_port is not None:
        account = ServiceAccount.of_pod(options.service_account)
        tls_listener = TlsListener(
            options.host,
            options.external_metrics_port,
            options.external_metrics_tls,
            account.fetch_front_proxy,
        )
        app.cleanup_ctx.append(
            _external_metrics(publisher, tls_listener, options.published, supervisor)
        )


def _keda(
    publisher: Publisher, host: str, port: int
) -> Callable[[web.Application], AsyncIterator[None]]:
    async def run(_: web.Application) -> AsyncIterator[None]:
        # gRPC costs memory and load time, and most installations have no KEDA.
        from r1_forecasting.published.keda.scaler import KedaScaler, start_keda_listener

        server, _bound = await start_keda_listener(KedaScaler(publisher), host, port)
        with contextlib.suppress(GeneratorExit):
            yield
        await server.stop(1.0)

    return run


def _external_metrics(
    publisher: Publisher,
    tls_listener: TlsListener,
    catalogue_file: CatalogueFile,
    supervisor: Supervisor,
) -> Callable[[web.Application], AsyncIterator[None]]:
    async def run(_: web.Application) -> AsyncIterator[None]:
        api = ExternalMetricsApi(
            publisher, lambda: catalogue_file.catalogue, lambda: tls_listener.trust
        )
        # An application can be served only once, so each start of the task builds one.
        supervisor.start("external metrics port", lambda: tls_listener.serve(api.application()))
        supervisor.start("published forecasts file", catalogue_file.watch)
        with contextlib.suppress(GeneratorExit):
            yield
        await supervisor.stop()

    return run

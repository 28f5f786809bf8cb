"""``python -m r1_forecasting``: the forecaster service."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Sequence

UNUSED_SECONDS = 7 * 86_400.0
"""Stored models that have not been written for this long are deleted at the start."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM."""
    # Before the slow imports: process 1 of a container has no default action for SIGTERM.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    from aiohttp import web

    from r1_common import listen
    from r1_forecasting.options import parse_options
    from r1_forecasting.published.publisher import ForecastSource
    from r1_forecasting.published.service_account import FrontProxyUnavailable
    from r1_forecasting.published.serving import start_listeners
    from r1_forecasting.series.prometheus_history import PrometheusHistory
    from r1_forecasting.service.service import ForecastService
    from r1_forecasting.sharding.serving import build_router, open_shard
    from r1_forecasting.training.model_store import ModelStore
    from r1_forecasting.training.trainer import Trainer
    from r1_forecasting.training.training_queue import TrainingQueue

    options = parse_options(sys.argv[1:] if arguments is None else arguments)
    logging.basicConfig(
        level=options.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    try:
        store = ModelStore.create(options.model_store)
        # Counted from the newest file at most: a wrong clock at the start must not delete all files.
        store.delete_older_than(before=min(time.time(), store.newest_file_time()) - UNUSED_SECONDS)
    except OSError as error:
        print(f"r1-forecaster: --model-store: cannot use the folder: {error}", file=sys.stderr)
        return 2
    history = PrometheusHistory(options.prometheus)
    service = ForecastService(
        history,
        Trainer(options.models, TrainingQueue(options.training_share)),
        model_store=store,
        series_clock=history.clock.now,
    )
    source: ForecastSource = service
    if options.shards is None:
        app = service.application()
    else:
        source = router = build_router(service, options.shard, options.shards)
        app = service.application(router.operator_forecast)
        open_shard(app, service, router, options.shards)
    try:
        start_listeners(app, source, options, service.supervisor)
    except FrontProxyUnavailable as error:
        print(f"r1-forecaster: {error}", file=sys.stderr)
        return 2
    try:
        sockets = listen.bind(options.host, options.port)
    except OSError as error:
        print(f"r1-forecaster: {error}", file=sys.stderr)
        return 1
    web.run_app(
        app,
        sock=sockets,
        access_log=None,
        print=None,
        shutdown_timeout=5.0,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

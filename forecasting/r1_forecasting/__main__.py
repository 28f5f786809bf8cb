"""``python -m r1_forecasting``: the forecaster service."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Sequence

UNASKED_SECONDS = 7 * 86_400.0
"""Kept models that nobody has had fitted anew for so long are cleared at the start."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to stop."""
    # Before the slow imports: process 1 of a container has no default action, and would not hear.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    from aiohttp import web

    from r1_common import listen
    from r1_forecasting.options import parse_options
    from r1_forecasting.published.publisher import Answers
    from r1_forecasting.published.service_account import Unreadable
    from r1_forecasting.published.serving import start_listeners
    from r1_forecasting.selection.model_store import ModelFolder
    from r1_forecasting.selection.training import Trainer
    from r1_forecasting.selection.training_queue import TrainingQueue
    from r1_forecasting.series.prometheus_history import PrometheusHistory
    from r1_forecasting.service.service import ForecastService
    from r1_forecasting.sharding.serving import open_shard, route

    options = parse_options(sys.argv[1:] if arguments is None else arguments)
    logging.basicConfig(
        level=options.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    try:
        kept = ModelFolder.made(options.kept_models)
        # By the last use at most: a clock that is wrong at the start must not void them all.
        kept.clear(before=min(time.time(), kept.newest()) - UNASKED_SECONDS)
    except OSError as error:
        print(f"r1-forecaster: --kept-models: cannot be used: {error}", file=sys.stderr)
        return 2
    history = PrometheusHistory(options.prometheus)
    service = ForecastService(
        history,
        Trainer(options.models, TrainingQueue(options.training_share)),
        kept=kept,
        series_clock=history.clock.now,
    )
    answers: Answers = service
    if options.shards is None:
        app = service.application()
    else:
        answers = routed = route(service, options.shard, options.shards)
        app = service.application(routed.ask)
        open_shard(app, service, routed, options.shards)
    try:
        start_listeners(app, answers, options, service.supervisor)
    except Unreadable as error:
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

"""``python -m r1_forecasting``: the forecaster service.

Options come from the command line or from the environment (``R1_FORECASTER_*``).
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from aiohttp import web

from r1_forecasting.history import PrometheusHistory
from r1_forecasting.selection import learned
from r1_forecasting.service import ForecastService
from r1_forecasting.training import Trainer


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Options; exits with a message that names a bad one."""
    known = [forecaster.name for forecaster in learned()]

    def env(name: str, default: str) -> str:
        return os.environ.get(f"R1_FORECASTER_{name}", default)

    def models(text: str) -> tuple[str, ...]:
        chosen = tuple(part.strip() for part in text.split(",") if part.strip())
        for name in chosen:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return chosen

    def share(text: str) -> float:
        value = float(text)
        if not 0.01 <= value <= 1.0:
            raise argparse.ArgumentTypeError(f"{text} needs to lie from 0.01 to 1")
        return value

    parser = argparse.ArgumentParser(prog="r1-forecaster", description=__doc__)
    parser.add_argument("--prometheus-url", default=env("PROMETHEUS_URL", "http://127.0.0.1:9090"))
    parser.add_argument("--host", default=env("HOST", "0.0.0.0"))  # noqa: S104 - a pod's port
    parser.add_argument("--port", type=int, default=env("PORT", "8082"))
    parser.add_argument(
        "--models",
        type=models,
        default=env("MODELS", ",".join(known)),
        help="learned models to train, comma-separated; empty for none",
    )
    parser.add_argument(
        "--training-share",
        type=share,
        default=env("TRAINING_SHARE", "0.25"),
        help="share of one core that refits may use",
    )
    parser.add_argument("--log-level", default=env("LOG_LEVEL", "INFO"))
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to stop."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    logging.basicConfig(
        level=options.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    service = ForecastService(
        PrometheusHistory(options.prometheus_url),
        Trainer(options.models, share=options.training_share),
    )
    web.run_app(
        service.application(),
        host=options.host,
        port=options.port,
        access_log=None,
        print=None,
        shutdown_timeout=5.0,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Options of the forecaster, from the command line or the environment (`R1_FORECASTER_*`)."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from r1_common.listen import EVERY_ADDRESS
from r1_common.prometheus.client_config import InvalidPrometheusConfig, load_config
from r1_forecasting.models.registry import learned
from r1_forecasting.published.options import add_listener_options, check_listeners
from r1_forecasting.sharding.options import add_shard_options, check_shards


def parse_options(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the options; exit with a message that names an invalid one."""
    known = [forecaster.name for forecaster in learned()]

    def env(name: str, default: str) -> str:
        return os.environ.get(f"R1_FORECASTER_{name}", default)

    def models(text: str) -> tuple[str, ...]:
        chosen = tuple(part.strip() for part in text.split(",") if part.strip())
        for name in chosen:
            if name not in known:
                raise argparse.ArgumentTypeError(
                    f"{name!r} is unknown; known models: {', '.join(known)}"
                )
        return chosen

    def share(text: str) -> float:
        value = float(text)
        if not 0.01 <= value <= 1.0:
            raise argparse.ArgumentTypeError(f"{text} is out of range; needs 0.01 to 1")
        return value

    parser = argparse.ArgumentParser(prog="r1-forecaster", description=__doc__)
    parser.add_argument("--prometheus-url", default=env("PROMETHEUS_URL", "http://127.0.0.1:9090"))
    parser.add_argument(
        "--prometheus-client",
        default=env("PROMETHEUS_CLIENT", ""),
        metavar="JSON",
        help="credentials as file paths, headers, TLS files and label matchers for Prometheus: a "
        "JSON object, or the path of a file with it",
    )
    parser.add_argument(
        "--host",
        default=env("HOST", EVERY_ADDRESS),
        help="bind address of every port; :: is every IPv6 and IPv4 address",
    )
    parser.add_argument("--port", type=int, default=env("PORT", "8082"))
    parser.add_argument(
        "--models",
        type=models,
        default=env("MODELS", ",".join(known)),
        help="learned models to train, comma-separated; empty trains none",
    )
    parser.add_argument(
        "--training-share",
        type=share,
        default=env("TRAINING_SHARE", "0.25"),
        help="share of one CPU core that refits may use (0.01 to 1)",
    )
    parser.add_argument(
        "--model-store",
        type=lambda text: Path(text) if text else None,
        default=env("MODEL_STORE", ""),
        metavar="DIR",
        help="folder for fitted models, used by this process alone, so that they outlive a "
        "restart; empty stores none",
    )
    parser.add_argument("--log-level", default=env("LOG_LEVEL", "INFO"))
    add_listener_options(parser, env)
    add_shard_options(parser, env)
    options = parser.parse_args(arguments)
    try:
        options.prometheus = load_config(options.prometheus_url, options.prometheus_client)
    except InvalidPrometheusConfig as error:
        parser.error(f"--prometheus-url, --prometheus-client: {error}")
    check_shards(parser, options)
    return check_listeners(parser, options)

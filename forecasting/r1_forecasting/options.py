"""Options of the forecaster, from the command line or the environment (`R1_FORECASTER_*`)."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from r1_common.listen import EVERY_ADDRESS
from r1_common.options import OptionParser, items, number, optional_path, whole_number
from r1_common.prometheus.client_config import InvalidPrometheusConfig, load_config
from r1_forecasting.models.registry import learned
from r1_forecasting.published.options import add_listener_options, check_listeners
from r1_forecasting.sharding.options import add_shard_options, check_shards


def parse_options(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the options; exit with a message that names an invalid one."""
    known = tuple(forecaster.name for forecaster in learned())

    def models(text: str) -> tuple[str, ...]:
        chosen = items(text)
        for name in chosen:
            if name not in known:
                raise ValueError(f"{name!r} is unknown; known models: {', '.join(known)}")
        return chosen

    parser = OptionParser("R1_FORECASTER", prog="r1-forecaster", description=__doc__)
    parser.add("--prometheus-url", "http://127.0.0.1:9090", "URL of Prometheus", metavar="URL")
    parser.add(
        "--prometheus-client",
        "",
        "credentials as file paths, headers, TLS files and label matchers for Prometheus: a "
        "JSON object, or the path of a file with it",
        metavar="JSON",
    )
    parser.add(
        "--host",
        EVERY_ADDRESS,
        "bind address of every port; :: is every IPv6 and IPv4 address",
        metavar="ADDRESS",
    )
    parser.add("--port", 8082, "port of the forecasts", whole_number, metavar="PORT")
    parser.add(
        "--models",
        known,
        "learned models to train, comma-separated; empty trains none",
        models,
        metavar="NAMES",
    )
    parser.add(
        "--training-share",
        0.25,
        "share of one CPU core that refits may use (0.01 to 1)",
        _share,
        metavar="SHARE",
    )
    parser.add(
        "--model-store",
        None,
        "folder for fitted models, used by this process alone, so that they outlive a "
        "restart; empty stores none",
        optional_path,
        metavar="DIR",
    )
    parser.add("--log-level", "INFO", "debug, info, warning or error", metavar="LEVEL")
    add_listener_options(parser)
    add_shard_options(parser)
    options = argparse.Namespace(**parser.parse_or_exit(arguments))
    try:
        options.prometheus = load_config(options.prometheus_url, options.prometheus_client)
    except InvalidPrometheusConfig as error:
        parser.error(f"--prometheus-url, --prometheus-client: {error}")
    check_shards(parser, options)
    return check_listeners(parser, options)


def _share(text: str) -> float:
    value = number(text)
    if not 0.01 <= value <= 1.0:
        raise ValueError(f"{text} is out of range; needs 0.01 to 1")
    return value

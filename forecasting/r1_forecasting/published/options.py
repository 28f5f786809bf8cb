"""Options of the listeners for other autoscalers; both are off by default."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from r1_common.kube.access import SERVICE_ACCOUNT
from r1_forecasting.published.catalogue_file import CatalogueFile


def add_listener_options(parser: argparse.ArgumentParser, env: Callable[[str, str], str]) -> None:
    """Add the options of both listeners; ``env`` returns a variable's value or the default."""
    group = parser.add_argument_group(
        "published forecasts", "Listeners for other autoscalers; both are off by default."
    )
    group.add_argument(
        "--keda-port",
        type=_port,
        default=env("KEDA_PORT", "off"),
        help="port of the external scaler for KEDA (gRPC, no TLS), or off",
    )
    group.add_argument(
        "--external-metrics-port",
        type=_port,
        default=env("EXTERNAL_METRICS_PORT", "off"),
        help="port of external.metrics.k8s.io (TLS, for the API server only), or off",
    )
    group.add_argument(
        "--external-metrics-tls",
        type=Path,
        default=env("EXTERNAL_METRICS_TLS", "/etc/r1/external-metrics"),
        metavar="DIR",
        help="folder with tls.crt and tls.key of that port",
    )
    group.add_argument(
        "--published",
        type=_catalogue,
        default=env("PUBLISHED", ""),
        metavar="FILE",
        help="file with a JSON list of the metrics served there, in addition to R1Inferences",
    )
    group.add_argument(
        "--service-account",
        type=Path,
        default=env("SERVICE_ACCOUNT", str(SERVICE_ACCOUNT)),
        metavar="DIR",
        help="folder with token and ca.crt, used to read the front proxy's ConfigMap",
    )


def check_listeners(
    parser: argparse.ArgumentParser, options: argparse.Namespace
) -> argparse.Namespace:
    """Exit with a message where the options contradict each other."""
    if options.published.catalogue and options.external_metrics_port is None:
        parser.error(
            "--published: no listener serves the list; set --external-metrics-port as well"
        )
    return options


def _port(text: str) -> int | None:
    if text == "off":
        return None
    if not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} needs to be a port or off")
    return int(text)


def _catalogue(text: str) -> CatalogueFile:
    try:
        return CatalogueFile(Path(text) if text else None)
    except (ValueError, OSError) as error:
        raise argparse.ArgumentTypeError(f"{text}: {error}") from error

"""The doors' options; without any of them both doors stay closed."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from r1_common.kube.access import SERVICE_ACCOUNT
from r1_forecasting.published.catalogue_file import CatalogueFile


def add_listener_options(parser: argparse.ArgumentParser, env: Callable[[str, str], str]) -> None:
    """The options of both doors; ``env`` gives a variable's value or the default."""
    doors = parser.add_argument_group(
        "the forecast for everyone", "Doors for other autoscalers; both are closed by default."
    )
    doors.add_argument(
        "--keda-port",
        type=_port,
        default=env("KEDA_PORT", "off"),
        help="port of KEDA's external scaler (gRPC, no TLS), or off",
    )
    doors.add_argument(
        "--external-metrics-port",
        type=_port,
        default=env("EXTERNAL_METRICS_PORT", "off"),
        help="port of external.metrics.k8s.io (TLS, for the API server alone), or off",
    )
    doors.add_argument(
        "--external-metrics-tls",
        type=Path,
        default=env("EXTERNAL_METRICS_TLS", "/etc/r1/external-metrics"),
        metavar="DIR",
        help="folder with the tls.crt and tls.key of that port",
    )
    doors.add_argument(
        "--published",
        type=_catalogue,
        default=env("PUBLISHED", ""),
        metavar="FILE",
        help="JSON list of the metrics served there beside those of R1Inferences",
    )
    doors.add_argument(
        "--service-account",
        type=Path,
        default=env("SERVICE_ACCOUNT", str(SERVICE_ACCOUNT)),
        metavar="DIR",
        help="folder with the token and ca.crt that read whom to trust there",
    )


def check_listeners(
    parser: argparse.ArgumentParser, options: argparse.Namespace
) -> argparse.Namespace:
    """Exit with a message where the options do not go together."""
    if options.published.catalogue and options.external_metrics_port is None:
        parser.error("--published: nothing serves the list; give --external-metrics-port as well")
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

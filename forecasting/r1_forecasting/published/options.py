"""Options of the listeners for other autoscalers; both are off by default."""

from __future__ import annotations

import argparse
from pathlib import Path

from r1_common.kube.access import SERVICE_ACCOUNT
from r1_common.options import OptionParser
from r1_forecasting.published.catalogue_file import CatalogueFile


def add_listener_options(parser: OptionParser) -> None:
    """Add the options of both listeners."""
    parser.begin_group(
        "published forecasts", "Listeners for other autoscalers; both are off by default."
    )
    parser.add(
        "--keda-port",
        None,
        "port of the external scaler for KEDA (gRPC, no TLS), or off (default off)",
        _port,
        metavar="PORT",
    )
    parser.add(
        "--external-metrics-port",
        None,
        "port of external.metrics.k8s.io (TLS, for the API server only), or off (default off)",
        _port,
        metavar="PORT",
    )
    parser.add(
        "--external-metrics-tls",
        Path("/etc/r1/external-metrics"),
        "folder with tls.crt and tls.key of that port",
        Path,
        metavar="DIR",
    )
    parser.add(
        "--published",
        CatalogueFile(None),
        "file with a JSON list of the metrics served there, in addition to R1Inferences",
        _catalogue,
        metavar="FILE",
    )
    parser.add(
        "--service-account",
        SERVICE_ACCOUNT,
        "folder with token and ca.crt, used to read the front proxy's ConfigMap",
        Path,
        metavar="DIR",
    )


def check_listeners(parser: OptionParser, options: argparse.Namespace) -> argparse.Namespace:
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
        raise ValueError(f"{text!r} needs to be a port or off")
    return int(text)


def _catalogue(text: str) -> CatalogueFile:
    try:
        return CatalogueFile(Path(text) if text else None)
    except (ValueError, OSError) as error:
        raise ValueError(f"{text}: {error}") from error

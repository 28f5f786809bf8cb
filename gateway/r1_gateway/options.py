"""Command line and environment of the gateway: each flag ``--a-b`` is also ``R1_GATEWAY_A_B``."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from r1_common.listen import EVERY_ADDRESS
from r1_common.options import OptionParser, number, whole_number

_EXAMPLES = """
examples:
  python -m r1_gateway --config routes.json
      no Kubernetes: routes and pods from a file, read again when it changes
  python -m r1_gateway --watch-namespace default
      in a pod, or with KUBECONFIG set: routes from ConfigMaps labelled deepseek.ai/route=true,
      pods from EndpointSlices labelled deepseek.ai/r1inference

  curl localhost:8000/v1/models
  curl localhost:8000/v1/chat/completions -H 'content-type: application/json' \\
    -H 'x-r1-priority: Q1' -H 'x-request-deadline-ms: 5000' \\
    -d '{"model": "production-r1", "messages": [{"role": "user", "content": "Hello"}]}'
  curl localhost:8081/signals

every flag --some-name is also read from the environment as R1_GATEWAY_SOME_NAME.
"""


@dataclass(frozen=True, slots=True)
class GatewayOptions:
    """Settings of the gateway process."""

    host: str = EVERY_ADDRESS
    port: int = 8000
    admin_host: str = EVERY_ADDRESS
    admin_port: int = 8081
    admin_token_file: Path | None = None
    name: str = ""
    config: Path | None = None
    keys_file: Path | None = None
    redis: str | None = None
    watch_namespace: str | None = None
    gateway_service: str | None = None
    max_body_bytes: int = 8 << 20
    max_buffered_bytes: int = 256 << 20
    linger_seconds: float = 5.0
    drain_seconds: float = 120.0
    access_log: bool = False
    log_level: str = "info"


def parse_options(
    arguments: Sequence[str] | None = None, environment: Mapping[str, str] | None = None
) -> GatewayOptions:
    """Options from flags, else from the environment, else the defaults.

    Raises:
        SystemExit: 2 with the usual message on standard error, or 0 after ``--help``.
    """
    env = os.environ if environment is None else environment
    default = GatewayOptions()
    parser = OptionParser(
        "R1_GATEWAY",
        env,
        empty_is_unset=True,
        prog="python -m r1_gateway",
        description="OpenAI-compatible gateway in front of every R1Inference: priority classes, "
        "bounded queues, seats per pod, streaming.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add(
        "--host",
        default.host,
        "address of the data listener; :: is every IPv6 and IPv4 address",
        metavar="ADDRESS",
    )
    parser.add("--port", default.port, "port of the data listener", whole_number, metavar="PORT")
    parser.add(
        "--admin-host",
        default.admin_host,
        "address of the admin listener; :: is every IPv6 and IPv4 address",
        metavar="ADDRESS",
    )
    parser.add(
        "--admin-port",
        default.admin_port,
        "port of /healthz, /readyz, /metrics, /signals and PUT /seat-reservations",
        whole_number,
        metavar="PORT",
    )
    parser.add(
        "--admin-token-file",
        None,
        "file with the token that /metrics, /signals and PUT /seat-reservations require; the probes "
        "need none",
        Path,
        metavar="FILE",
    )
    name = env.get("HOSTNAME") or "r1-gateway"
    parser.add("--name", name, "this gateway's name in the signals", metavar="NAME")
    parser.add(
        "--config",
        None,
        "JSON file with routes and pods, instead of Kubernetes",
        Path,
        metavar="FILE",
    )
    parser.add(
        "--keys-file",
        None,
        "API keys and tenants: JSON {tenants, keys: {sha256 of key: {tenant}}, prices}; a request "
        "without a known key gets 401",
        Path,
        metavar="FILE",
    )
    parser.add(
        "--redis",
        None,
        "redis://[user:password@]host:port/db: the limits of tenants are shared by all gateways and "
        "stored over restarts; set a password in R1_GATEWAY_REDIS, not on the command line",
        metavar="URL",
    )
    parser.add("--watch-namespace", None, "watch this namespace only", metavar="NAMESPACE")
    parser.add(
        "--gateway-service",
        None,
        "NAMESPACE/NAME of the gateways' own Service; seats are divided among its pods",
        metavar="SERVICE",
    )
    parser.add(
        "--max-body-bytes",
        default.max_body_bytes,
        "largest request body; a larger one gets 413",
        whole_number,
        metavar="BYTES",
    )
    parser.add(
        "--max-buffered-bytes",
        default.max_buffered_bytes,
        "bytes of all requests and buffered responses together; beyond, requests get 503",
        whole_number,
        metavar="BYTES",
    )
    parser.add(
        "--linger-seconds",
        default.linger_seconds,
        "after SIGTERM: time to accept connections while Services and proxies update",
        number,
        metavar="SECONDS",
    )
    parser.add(
        "--drain-seconds",
        default.drain_seconds,
        "after that: time for queued and running requests to finish",
        number,
        metavar="SECONDS",
    )
    parser.add("--log-level", default.log_level, "debug, info, warning or error", metavar="LEVEL")
    parser.add_switch(
        "--access-log",
        "one JSON line per request, without prompts or keys (default off; --no-access-log)",
        negatable=True,
    )
    given = GatewayOptions(**parser.parse_or_exit(arguments))
    if given.max_body_bytes < 1:
        parser.error("--max-body-bytes must be at least 1")
    if given.max_buffered_bytes < given.max_body_bytes:
        parser.error("--max-buffered-bytes must be at least --max-body-bytes")
    if min(given.linger_seconds, given.drain_seconds) < 0:
        parser.error("--linger-seconds and --drain-seconds must not be negative")
    if given.log_level not in ("debug", "info", "warning", "error"):
        parser.error("--log-level must be debug, info, warning or error")
    if given.gateway_service is not None and given.gateway_service.count("/") != 1:
        parser.error("--gateway-service must be NAMESPACE/NAME")
    return given

"""What can be set for the operator as a whole, by environment variable or by flag.

The field `gateway_service` is `R1_GATEWAY_SERVICE` and `--gateway-service`; a flag wins over the
environment. Lists are separated by commas. Whatever belongs to one model stands in its R1Inference.
"""

from __future__ import annotations

import argparse
import os
import re
import socket
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from r1_common.listen import EVERY_ADDRESS
from r1_common.prometheus.client_config import (
    InvalidPrometheusConfig,
    PrometheusConfig,
    load_config,
)
from r1_common.untrusted_json import InvalidJson, parse_json


class BadSetting(ValueError):
    """A setting that cannot be used; the message names it and says what is wanted."""


def _setting(default: Any, about: str) -> Any:
    return field(default=default, metadata={"about": about})


@dataclass(frozen=True, slots=True)
class OperatorSettings:
    """All settings, with the defaults of a cluster that the chart has not changed."""

    namespaces: tuple[str, ...] = _setting((), "Namespaces to serve; none means all.")
    own_namespace: str = _setting("default", "Where the Lease and the operator's pods live.")
    identity: str = _setting("", "The pod's name, for the Lease; no two at a time.")

    default_model: str = _setting("demo", "Bundled model of a resource that names none.")
    default_image: str = _setting("localhost/r1-runtime:latest", "Image of the bundled engine.")
    image_pull_policy: str = _setting("IfNotPresent", "Of the engines' images.")
    accelerators: tuple[str, ...] = _setting(
        (), "Names of further resources that count as accelerators, such as example.com/npu."
    )
    model_pod_template: str = _setting(
        "{}", "A pod template as JSON, merged over every model pod and under the resource's own."
    )
    service_monitors: bool = _setting(True, "Make ServiceMonitors where that API exists.")
    service_monitor_interval: str = _setting("15s", "Scrape interval of these ServiceMonitors.")
    service_monitor_labels: str = _setting(
        "{}", "A JSON object of labels that these ServiceMonitors get."
    )

    backtest_image: str = _setting("", "Image of R1Backtests' Jobs; empty: they stay Pending.")
    backtest_template: str = _setting(
        "{}", "A pod template as JSON, merged over that of R1Backtests' Jobs."
    )

    gateway_service: str = _setting(
        "", "namespace/name of the gateway's Service, whose pods' load signals are read."
    )
    gateway_urls: tuple[str, ...] = _setting(
        (), "Signal URLs to read instead, for tests and --dev."
    )
    forecaster_url: str = _setting("", "http://host:8082 of the forecaster; empty: no forecasts.")
    prometheus_url: str = _setting(
        "",
        "http://host:9090 of Prometheus, for External metrics (empty: they hold the count) and"
        " for R1Backtests.",
    )
    prometheus_client: str = _setting(
        "",
        "Credentials as file paths, headers, TLS files, label matchers and scrape interval for"
        " Prometheus: a JSON object, or the path of a file with it.",
    )
    min_rate_seconds: int = _setting(
        60,
        "Shortest window of the rates that forecasts learn from; four of the scrape intervals in"
        " R1_PROMETHEUS_CLIENT where those are longer.",
    )

    http_host: str = _setting(
        EVERY_ADDRESS,
        "Address that serves probes, metrics and decisions; :: is every IPv6 and IPv4 address.",
    )
    http_port: int = _setting(8080, "Port of the same; 0 picks a free one.")

    lease_name: str = _setting("r1-operator", "Name of the Lease that elects the active operator.")
    lease_seconds: float = _setting(
        15.0, "A standby takes over when this long nothing was renewed."
    )
    renew_seconds: float = _setting(5.0, "How often the active operator renews the Lease.")

    workers: int = _setting(8, "Resources that are reconciled at the same time.")
    max_concurrent_requests: int = _setting(16, "Requests to the API server at the same time.")
    resync_seconds: float = _setting(300.0, "A lost watch event is found after at most this long.")
    decision_seconds: float = _setting(2.0, "How often signals are read and counts are decided.")
    silent_watch_seconds: float = _setting(
        1200.0, "Liveness fails when no resync was finished for this long."
    )
    dev: bool = _setting(False, "On a developer's machine: no Lease, readable debug log.")

    @classmethod
    def load(
        cls, arguments: Sequence[str] = (), environment: Mapping[str, str] | None = None
    ) -> OperatorSettings:
        """Read the environment, then the flags.

        Raises:
            BadSetting: a value that does not parse or cannot work.
            SystemExit: argparse's own, on an unknown flag or `--help`.
        """
        environment = os.environ if environment is None else environment
        values: dict[str, Any] = {}
        for each in fields(cls):
            raw = environment.get(variable(each.name))
            if raw is not None:
                values[each.name] = _convert(each.name, raw)
        given = flag_parser().parse_args(list(arguments))
        for name, raw in vars(given).items():
            if raw is None:
                continue
            joined = ",".join(raw) if isinstance(raw, list) else str(raw)
            values[name] = _convert(name, joined)
        return replace(cls(), **values).checked()

    def checked(self) -> OperatorSettings:
        """These settings with an identity, or `BadSetting`."""
        if self.gateway_service and self.gateway_service.count("/") != 1:
            raise BadSetting(
                f"R1_GATEWAY_SERVICE is {self.gateway_service!r}: write namespace/name"
            )
        if self.lease_seconds < 3 or self.renew_seconds > self.lease_seconds / 3:
            raise BadSetting(
                "R1_LEASE_SECONDS must be at least 3, and at least three times R1_RENEW_SECONDS"
            )
        self.prometheus()
        for name in ("model_pod_template", "backtest_template"):
            if _json_object(getattr(self, name)) is None:
                raise BadSetting(f"{variable(name)} must be a JSON object, a pod template")
        labels = _json_object(self.service_monitor_labels)
        if labels is None or not all(isinstance(value, str) for value in labels.values()):
            raise BadSetting("R1_SERVICE_MONITOR_LABELS must be a JSON object of strings")
        if not re.fullmatch(r"([0-9]+(ms|s|m|h))+", self.service_monitor_interval):
            raise BadSetting(
                f"R1_SERVICE_MONITOR_INTERVAL is {self.service_monitor_interval!r}: write a"
                " duration such as 15s"
            )
        for name in self.accelerators:
            if not 0 < name.find("/") < len(name) - 1:
                raise BadSetting(f"R1_ACCELERATORS has {name!r}: write names as vendor.com/device")
        for name in ("workers", "max_concurrent_requests"):
            if getattr(self, name) < 1:
                raise BadSetting(f"{variable(name)} must be at least 1")
        for name in ("resync_seconds", "decision_seconds", "silent_watch_seconds"):
            if getattr(self, name) <= 0:
                raise BadSetting(f"{variable(name)} must be greater than 0")
        name = self.identity or f"{socket.gethostname()}-{os.getpid()}"
        return replace(self, identity=f"{name}_{uuid.uuid4().hex[:8]}")

    def prometheus(self) -> PrometheusConfig:
        """How Prometheus is reached, or `BadSetting`."""
        try:
            return load_config(self.prometheus_url, self.prometheus_client)
        except InvalidPrometheusConfig as error:
            raise BadSetting(f"R1_PROMETHEUS_URL, R1_PROMETHEUS_CLIENT: {error}") from None


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return f"R1_{name.upper()}"


def flag_parser() -> argparse.ArgumentParser:
    """The flags of `r1-operator run`; `--namespace` may be given several times."""
    parser = argparse.ArgumentParser(
        prog="r1-operator run",
        description="Watch R1Inferences and keep their replicas where the load needs them.",
        epilog="Every flag is also an environment variable: --http-port is R1_HTTP_PORT.",
    )
    for each in fields(OperatorSettings):
        about = each.metadata["about"].replace("%", "%%")
        if each.name == "namespaces":
            parser.add_argument(
                "--namespace", dest="namespaces", action="append", metavar="NAME", help=about
            )
        elif each.name == "dev":
            parser.add_argument("--dev", action="store_const", const="true", help=about)
        else:
            flag = "--" + each.name.replace("_", "-")
            parser.add_argument(flag, metavar="VALUE", help=f"{about} Default: {each.default!r}.")
    return parser


def _convert(name: str, raw: str) -> Any:
    default = next(each.default for each in fields(OperatorSettings) if each.name == name)
    convert: Callable[[str], Any] = str.strip
    if isinstance(default, bool):
        convert = _boolean
    elif isinstance(default, tuple):
        convert = _items
    elif isinstance(default, int | float):
        convert = type(default)
    try:
        return convert(raw)
    except ValueError as error:
        wanted = type(default).__name__
        raise BadSetting(f"{variable(name)} is {raw!r}: a {wanted} is wanted ({error})") from error


def _json_object(text: str) -> dict[str, Any] | None:
    try:
        found = parse_json(text)
    except InvalidJson:
        return None
    return found if isinstance(found, dict) else None


def _boolean(raw: str) -> bool:
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    try:
        return words[raw.strip().lower()]
    except KeyError:
        raise ValueError("write true or false") from None


def _items(raw: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in raw.split(",") if item.strip())

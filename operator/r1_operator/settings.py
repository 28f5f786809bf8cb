"""Settings of the operator, from environment variables and flags.

The field `gateway_service` is `R1_GATEWAY_SERVICE` and `--gateway-service`; a flag overrides the
environment. Lists are separated by commas. Settings of one model are in its R1Inference.
"""

from __future__ import annotations

import os
import re
import socket
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from r1_common.listen import EVERY_ADDRESS
from r1_common.options import (
    InvalidOption,
    OptionParser,
    boolean,
    items,
    number,
    whole_number,
)
from r1_common.prometheus.client_config import (
    InvalidPrometheusConfig,
    PrometheusConfig,
    load_config,
)
from r1_common.untrusted_json import InvalidJson, parse_json


class BadSetting(ValueError):
    """An invalid setting; the message names the setting and the expected value."""


def _setting(default: Any, help_text: str) -> Any:
    return field(default=default, metadata={"help": help_text})


@dataclass(frozen=True, slots=True)
class OperatorSettings:
    """All settings with their defaults."""

    namespaces: tuple[str, ...] = _setting(
        (), "Namespaces whose R1Inferences are served; all when empty."
    )
    own_namespace: str = _setting("default", "Namespace of the Lease and of the operator pods.")
    identity: str = _setting("", "Name of this pod, for the Lease; unique among live pods.")

    default_model: str = _setting("demo", "Bundled model of an R1Inference without a model source.")
    default_image: str = _setting(
        "localhost/r1-runtime:latest", "Default image of the engine Bundled."
    )
    default_gpu_image: str = _setting(
        "",
        "Default image of the engine Bundled where the engine requests an accelerator; the default"
        " image when empty.",
    )
    image_pull_policy: str = _setting("IfNotPresent", "Pull policy of the engine images.")
    accelerators: tuple[str, ...] = _setting(
        (), "Additional resource names that count as accelerators, such as example.com/npu."
    )
    model_pod_template: str = _setting(
        "{}", "Pod template (JSON), merged over every model pod before spec.template."
    )
    service_monitors: bool = _setting(
        True, "Create ServiceMonitors if the cluster serves that API."
    )
    service_monitor_interval: str = _setting("15s", "Scrape interval of the ServiceMonitors.")
    service_monitor_labels: str = _setting(
        "{}", "Additional labels of the ServiceMonitors (JSON object)."
    )

    backtest_image: str = _setting(
        "", "Image of the Jobs of R1Backtests; when empty, R1Backtests stay Pending."
    )
    backtest_template: str = _setting(
        "{}", "Pod template (JSON), merged over the pod template of the Jobs of R1Backtests."
    )

    gateway_service: str = _setting(
        "", "namespace/name of the gateway Service; the operator polls the signals of its pods."
    )
    gateway_token_file: str = _setting(
        "", "File with the token of the gateways' admin port; no token is sent when empty."
    )
    gateway_urls: tuple[str, ...] = _setting(
        (), "Signal URLs that replace the gateway Service, for tests and --dev."
    )
    forecaster_url: str = _setting(
        "", "URL of the forecaster, http://host:8082; no forecasts when empty."
    )
    prometheus_url: str = _setting(
        "",
        "URL of Prometheus, http://host:9090, for External metrics and R1Backtests. When empty,"
        " External metrics are unavailable and the count stays.",
    )
    prometheus_client: str = _setting(
        "",
        "Prometheus client configuration: credentials as file paths, headers, TLS files, label"
        " matchers and scrape interval, as a JSON object or the path of a JSON file.",
    )
    min_rate_seconds: int = _setting(
        60,
        "Minimum rate window of forecast queries, in seconds; at least four scrape intervals of"
        " R1_PROMETHEUS_CLIENT.",
    )

    http_host: str = _setting(
        EVERY_ADDRESS,
        "Listen address of probes, metrics and decisions; :: is every IPv6 and IPv4 address.",
    )
    http_port: int = _setting(
        8080, "Listen port of probes, metrics and decisions; 0 selects a free port."
    )

    lease_name: str = _setting("r1-operator", "Name of the Lease for leader election.")
    lease_seconds: float = _setting(
        15.0, "Lease duration in seconds; a standby takes over after this time without a renewal."
    )
    renew_seconds: float = _setting(5.0, "Renewal period of the Lease in seconds.")

    workers: int = _setting(8, "Number of concurrent reconciles.")
    max_concurrent_requests: int = _setting(16, "Number of concurrent requests to the API server.")
    relist_seconds: float = _setting(
        300.0, "Relist period in seconds; a lost watch event is repaired within this time."
    )
    decision_seconds: float = _setting(
        2.0, "Period of polling signals and deciding counts, in seconds."
    )
    silent_watch_seconds: float = _setting(
        1200.0, "The liveness probe fails after this time without a finished relist, in seconds."
    )
    dev: bool = _setting(False, "Development mode: no leader election, debug log.")

    @classmethod
    def load(
        cls, arguments: Sequence[str] = (), environment: Mapping[str, str] | None = None
    ) -> OperatorSettings:
        """Read the environment, then the flags.

        Raises:
            BadSetting: a value is invalid.
            SystemExit: of argparse, for an unknown flag or `--help`.
        """
        options = _parser(environment)
        try:
            values = options.parse(list(arguments))
        except InvalidOption as error:
            raise BadSetting(str(error)) from error
        return cls(**values).checked()

    def checked(self) -> OperatorSettings:
        """Validate the settings and set the identity; raises `BadSetting`."""
        if self.gateway_service and self.gateway_service.count("/") != 1:
            raise BadSetting(
                f"R1_GATEWAY_SERVICE is {self.gateway_service!r}: it must be namespace/name"
            )
        if self.lease_seconds < 3 or self.renew_seconds > self.lease_seconds / 3:
            raise BadSetting(
                "R1_LEASE_SECONDS must be at least 3 and at least three times R1_RENEW_SECONDS"
            )
        self.prometheus()
        for name in ("model_pod_template", "backtest_template"):
            if _json_object(getattr(self, name)) is None:
                raise BadSetting(f"{variable(name)} must be a pod template as a JSON object")
        labels = _json_object(self.service_monitor_labels)
        if labels is None or not all(isinstance(value, str) for value in labels.values()):
            raise BadSetting("R1_SERVICE_MONITOR_LABELS must be a JSON object of strings")
        if not re.fullmatch(r"([0-9]+(ms|s|m|h))+", self.service_monitor_interval):
            raise BadSetting(
                f"R1_SERVICE_MONITOR_INTERVAL is {self.service_monitor_interval!r}: it must be a"
                " duration such as 15s"
            )
        for name in self.accelerators:
            if not 0 < name.find("/") < len(name) - 1:
                raise BadSetting(f"R1_ACCELERATORS has {name!r}: names must be vendor.com/device")
        for name in ("workers", "max_concurrent_requests"):
            if getattr(self, name) < 1:
                raise BadSetting(f"{variable(name)} must be at least 1")
        for name in ("relist_seconds", "decision_seconds", "silent_watch_seconds"):
            if getattr(self, name) <= 0:
                raise BadSetting(f"{variable(name)} must be greater than 0")
        name = self.identity or f"{socket.gethostname()}-{os.getpid()}"
        return replace(self, identity=f"{name}_{uuid.uuid4().hex[:8]}")

    def prometheus(self) -> PrometheusConfig:
        """The client configuration of Prometheus; raises `BadSetting`."""
        try:
            return load_config(self.prometheus_url, self.prometheus_client)
        except InvalidPrometheusConfig as error:
            raise BadSetting(f"R1_PROMETHEUS_URL, R1_PROMETHEUS_CLIENT: {error}") from None


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return f"R1_{name.upper()}"


def _parser(environment: Mapping[str, str] | None) -> OptionParser:
    """The parser of `r1-operator run`; `--namespace` may be repeated."""
    options = OptionParser(
        "R1",
        environment,
        prog="r1-operator run",
        description="Run the operator: serve R1Inferences and scale their replicas with the load.",
        epilog="Every flag has an environment variable: --http-port is R1_HTTP_PORT.",
    )
    for each in fields(OperatorSettings):
        text, default = each.metadata["help"], each.default
        flag = "--" + each.name.replace("_", "-")
        if each.name == "namespaces":
            options.add(
                "--namespace", default, text, items, metavar="NAME", repeated_as="namespaces"
            )
        elif each.name == "dev":
            options.add_switch(flag, text)
        else:
            options.add(flag, default, text, _converter(default))
    return options


def _converter(default: object) -> Callable[[str], Any]:
    if isinstance(default, bool):
        return boolean
    if isinstance(default, tuple):
        return items
    if isinstance(default, int):
        return whole_number
    return number if isinstance(default, float) else str.strip


def _json_object(text: str) -> dict[str, Any] | None:
    try:
        value = parse_json(text)
    except InvalidJson:
        return None
    return value if isinstance(value, dict) else None

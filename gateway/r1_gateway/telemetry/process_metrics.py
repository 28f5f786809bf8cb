"""Metrics of the gateway process: connections, memory, configuration, background tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from r1_gateway.gateway import Gateway
from r1_gateway.telemetry.metric_family import Family, Rows, no_rows, sample_lines


@dataclass(slots=True)
class ProcessStats:
    """Metrics of the process, read at each scrape."""

    invalid_configurations: Callable[[], int] = lambda: 0
    invalid_configmaps: Callable[[], Iterable[str]] = lambda: ()
    task_restarts: Callable[[], Mapping[str, int]] = dict
    shared_usage: Callable[[], tuple[bool, int] | None] = lambda: None
    """Whether Redis responds, and failed synchronizations; None without ``--redis``."""
    dropped_lines: Callable[[], Mapping[str, int]] = dict


PROCESS_FAMILIES: Mapping[str, Family] = {
    family.name: family
    for family in (
        Family("r1_gateway_invalid_requests", "counter",
               "Requests that reached no route: malformed, unauthorized, unknown model, over a limit.",
               ("code", "reason"), no_rows),
        Family("r1_gateway_client_connections", "gauge", "Open client connections.", (), no_rows),
        Family("r1_gateway_upstream_connections_opened", "counter", "Connections opened to pods.",
               (), no_rows),
        Family("r1_gateway_invalid_configurations", "counter",
               "Invalid versions of routes, keys or files; the earlier version stayed.", (), no_rows),
        Family("r1_gateway_invalid_configmaps", "gauge",
               "1 for a ConfigMap whose current route.json is invalid.",
               ("inference_namespace", "configmap"), no_rows),
        Family("r1_gateway_background_task_restarts", "counter",
               "Restarts of background tasks that failed.", ("task",), no_rows),
        Family("r1_gateway_buffered_bytes", "gauge",
               "Bytes of buffered requests and responses.", (), no_rows),
        Family("r1_gateway_buffered_bytes_rejected", "counter",
               "Charges that exceeded the byte budget (--max-buffered-bytes).", (), no_rows),
        Family("r1_gateway_log_lines_dropped", "counter",
               "Log lines dropped because the reader was too slow.", ("log",), no_rows),
        Family("r1_gateway_redis_reachable", "gauge",
               "1 while Redis (--redis) responds; no sample without --redis.", (), no_rows),
        Family("r1_gateway_redis_errors", "counter",
               "Failed exchanges of the tenants' charges with Redis.", (), no_rows),
    )
}  # fmt: skip


def process_rows(gateway: Gateway, stats: ProcessStats) -> Rows:
    """Families of the process."""
    samples: dict[str, Iterable[tuple[tuple[object, ...], float]]] = {
        "invalid_requests": [(key, count) for key, count in gateway.invalid_requests.items()],
        "client_connections": [((), len(gateway.clients))],
        "upstream_connections_opened": [((), gateway.connections.opened)],
        "invalid_configurations": [((), stats.invalid_configurations())],
        "invalid_configmaps": [(tuple(key.split("/", 1)), 1) for key in stats.invalid_configmaps()],
        "background_task_restarts": [((k,), n) for k, n in stats.task_restarts().items()],
        "buffered_bytes": [((), gateway.budget.used)],
        "buffered_bytes_rejected": [((), gateway.budget.rejected)],
        "log_lines_dropped": [((log,), n) for log, n in stats.dropped_lines().items()],
    }
    shared = stats.shared_usage()
    samples["redis_reachable"] = [] if shared is None else [((), float(shared[0]))]
    samples["redis_errors"] = [] if shared is None else [((), shared[1])]
    for name, values in samples.items():
        yield from sample_lines(PROCESS_FAMILIES[f"r1_gateway_{name}"], values)

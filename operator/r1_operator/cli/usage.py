"""`r1 usage`: requests, tokens, waits and cost of each tenant, from the gateways' metrics in Prometheus."""

from __future__ import annotations

import argparse
import math
import os
import re
from collections.abc import Mapping
from typing import Any

from rich.table import Table

from r1_common.prometheus.client_config import InvalidPrometheusConfig, load_config
from r1_common.prometheus.response import PrometheusError, QueryResult
from r1_operator.cli.output import FAILED, OK, USAGE, CommandFailed, console, print_json
from r1_operator.sources.prometheus_api import PrometheusApi

EXAMPLES = """\
examples:
  r1 usage --prometheus http://localhost:9090               last 7 days, by tenant
  r1 usage --prometheus URL --since 30d --by class          by priority class
  r1 usage --prometheus URL --since 1d --json | jq '.rows'

Prometheus has at most 20 tenants of each gateway by name; the others together are `other`.
"""

COUNTERS = {
    "requests": "r1_gateway_tenant_requests_total",
    "limited": "r1_gateway_tenant_limited_total",
    "inputTokens": "r1_gateway_tenant_input_tokens_total",
    "outputTokens": "r1_gateway_tenant_output_tokens_total",
    "queueSeconds": "r1_gateway_tenant_queue_seconds_total",
    "firstTokenSeconds": "r1_gateway_tenant_first_token_seconds_total",
    "firstTokens": "r1_gateway_tenant_first_tokens_total",
    "cost": "r1_gateway_tenant_cost_total",
}
"""Column -> counter of the gateways."""
NOT_BY_CLASS = {"limited", "cost"}
QUERY_SECONDS = 30.0
_SINCE = re.compile(r"[1-9][0-9]{0,4}[smhdw]")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the period, the grouping and the Prometheus server."""
    parser.add_argument(
        "--since", default="7d", metavar="DURATION", help="period until now, such as 12h or 7d"
    )
    parser.add_argument("--by", choices=("tenant", "class"), default="tenant", help="rows")
    parser.add_argument(
        "--prometheus",
        default=os.environ.get("R1_PROMETHEUS", ""),
        metavar="URL",
        help="Prometheus that scrapes the gateways (R1_PROMETHEUS)",
    )
    parser.add_argument(
        "--prometheus-client",
        default=os.environ.get("R1_PROMETHEUS_CLIENT", ""),
        metavar="JSON",
        help="credentials, headers and matchers of the client, as JSON or its file",
    )


async def run(options: argparse.Namespace) -> int:
    """Print the table, or JSON."""
    if not _SINCE.fullmatch(options.since):
        raise CommandFailed(f"--since: {options.since!r} is no duration such as 12h or 7d", USAGE)
    try:
        config = load_config(options.prometheus, options.prometheus_client)
    except InvalidPrometheusConfig as error:
        raise CommandFailed(f"--prometheus: {error}", USAGE) from None
    if not config.url:
        raise CommandFailed("--prometheus is missing: set the URL of Prometheus", USAGE)
    api = PrometheusApi(config, timeout_seconds=QUERY_SECONDS)
    columns = [name for name in COUNTERS if not (options.by == "class" and name in NOT_BY_CLASS)]
    try:
        values = {
            name: by_label(await api.query(promql(name, options.by, options.since)), options.by)
            for name in columns
        }
    except PrometheusError as error:
        raise CommandFailed(str(error), FAILED) from None
    finally:
        await api.close()
    rows = usage_rows(values, options.by)
    if options.json:
        print_json({"since": options.since, "by": options.by, "rows": rows})
    elif not rows:
        console().print(f"Prometheus has no requests of tenants in the last {options.since}.")
    else:
        console().print(_table(rows, options.by))
    return OK


def promql(column: str, by: str, since: str) -> str:
    """Query of one column: the increase of its counter over the period, summed over the gateways."""
    return f"sum by ({by}) (increase({COUNTERS[column]}[{since}]))"


def by_label(result: QueryResult, label: str) -> dict[str, float]:
    """Values of an instant query by one label; values that are not finite are left out."""
    if result.result_type != "vector":
        return {}
    values = {
        str(sample["metric"].get(label, "")): float(sample["value"][1]) for sample in result.result
    }
    return {name: value for name, value in values.items() if math.isfinite(value)}


def usage_rows(values: Mapping[str, Mapping[str, float]], by: str) -> list[dict[str, Any]]:
    """Rows by descending tokens; the sums of seconds become means."""
    rows = []
    for name in sorted({name for column in values.values() for name in column}):
        figures = {column: values[column].get(name, 0.0) for column in values}
        requests, firsts = figures["requests"], figures["firstTokens"]
        row: dict[str, Any] = {
            by: name,
            "requests": round(requests),
            "inputTokens": round(figures["inputTokens"]),
            "outputTokens": round(figures["outputTokens"]),
            "meanQueueSeconds": figures["queueSeconds"] / requests if requests else None,
            "meanFirstTokenSeconds": figures["firstTokenSeconds"] / firsts if firsts else None,
        }
        if "cost" in figures:
            row["limited"] = round(figures["limited"])
            row["cost"] = round(figures["cost"], 4)
        if any(figures.values()):
            rows.append(row)
    return sorted(rows, key=lambda row: -(row["inputTokens"] + row["outputTokens"]))


def _table(rows: list[dict[str, Any]], by: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    headings = {
        by: by.upper(),
        "requests": "REQUESTS",
        "limited": "LIMITED",
        "inputTokens": "INPUT TOKENS",
        "outputTokens": "OUTPUT TOKENS",
        "meanQueueSeconds": "MEAN QUEUE",
        "meanFirstTokenSeconds": "MEAN TTFT",
        "cost": "COST",
    }
    shown = [name for name in headings if name in rows[0]]
    for name in shown:
        table.add_column(headings[name], justify="left" if name == by else "right")
    for row in rows:
        table.add_row(*(_cell(name, row[name]) for name in shown))
    return table


def _cell(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if name.startswith("mean"):
        return f"{value * 1000:.0f} ms" if value < 1.0 else f"{value:.1f} s"
    if name == "cost":
        return f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) else str(value)

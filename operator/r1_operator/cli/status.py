"""`r1 status`: all resources in one table, or one with its conditions and pods."""

from __future__ import annotations

import argparse
from typing import Any

from rich.table import Table

from r1_operator.api.names import Label
from r1_operator.cli.output import (
    FAILED,
    NOT_FOUND,
    OK,
    CommandFailed,
    age,
    console,
    print_json,
)
from r1_operator.kube.client import Api, KubeApiError, NotFound
from r1_operator.kube.kinds import POD, R1INFERENCE, Json
from r1_operator.plan.scaling.decision import UNMET

EXAMPLES = """\
examples:
  r1 status                        all namespaces
  r1 status -n team-a              one namespace
  r1 status production-r1          one resource, with its conditions and pods
  r1 status --json | jq '.[].metadata.name'
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Name and namespace."""
    parser.add_argument("name", nargs="?", help="one resource; all of them without it")
    parser.add_argument("-n", "--namespace", help="default: all; 'default' with a name")


async def run(options: argparse.Namespace) -> int:
    """Print the table or the resource."""
    try:
        async with await Api.connect() as api:
            if options.name:
                return await _one(api, options)
            return await _all(api, options)
    except KubeApiError as error:
        raise CommandFailed(str(error), FAILED) from error


async def _all(api: Api, options: argparse.Namespace) -> int:
    try:
        found = [
            item
            async for page in api.list_pages(R1INFERENCE, options.namespace)
            for item in page["items"]
        ]
    except NotFound:
        raise CommandFailed(
            "this cluster knows no R1Inference: install the chart, or r1 crd | kubectl apply -f -",
            NOT_FOUND,
        ) from None
    if options.json:
        print_json(found)
        return OK
    if not found:
        console().print("No R1Inferences. Make one: kubectl apply -f examples/")
        return OK
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("NAMESPACE", "NAME", "READY", "DESIRED", "AVAILABLE", "MODE", "AGE", "WHY"):
        table.add_column(heading, no_wrap=heading != "WHY", overflow="fold")
    for item in found:
        status, metadata = item.get("status") or {}, item["metadata"]
        ready = condition(status, "Ready")
        table.add_row(
            metadata["namespace"],
            metadata["name"],
            _colored(ready.get("status", "Unknown")),
            str(status.get("desiredReplicas", "-")),
            str(status.get("availableReplicas", "-")),
            status.get("mode", "-"),
            age(metadata.get("creationTimestamp")),
            why(status),
        )
    console().print(table)
    return OK


async def _one(api: Api, options: argparse.Namespace) -> int:
    namespace = options.namespace or "default"
    found = await api.get(R1INFERENCE, namespace, options.name)
    if found is None:
        raise CommandFailed(f"there is no R1Inference {namespace}/{options.name}", NOT_FOUND)
    if options.json:
        print_json(found)
        return OK
    pods = [
        item
        async for page in api.list_pages(
            POD, namespace, label_selector=f"{Label.RESOURCE}={options.name}"
        )
        for item in page["items"]
    ]
    _print_one(found, pods)
    return OK


def _print_one(found: Json, pods: list[Json]) -> None:
    out, status = console(), found.get("status") or {}
    out.print(f"[bold]{found['metadata']['namespace']}/{found['metadata']['name']}[/bold]")
    out.print(
        f"{status.get('availableReplicas', 0)} of {status.get('desiredReplicas', '?')} replicas"
        f" serve, mode {status.get('mode', '-')}"
    )
    scale = status.get("lastScale")
    if scale:
        out.print(
            f"last scaled {age(scale['at'])} ago from {scale['from']} to {scale['to']}:"
            f" {scale['message']}"
        )
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("CONDITION", "STATUS", "SINCE", "REASON", "MESSAGE"):
        table.add_column(heading, overflow="fold", no_wrap=heading != "MESSAGE")
    for one in status.get("conditions") or ():
        table.add_row(
            one["type"],
            one["status"],
            age(one["lastTransitionTime"]),
            one["reason"],
            one["message"],
        )
    out.print(table)
    if pods:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for heading in ("POD", "PHASE", "READY", "NODE", "AGE"):
            table.add_column(heading)
        for pod in pods:
            ready = condition(pod.get("status") or {}, "Ready").get("status", "False")
            table.add_row(
                pod["metadata"]["name"],
                (pod.get("status") or {}).get("phase", "-"),
                _colored(ready),
                (pod.get("spec") or {}).get("nodeName", "-"),
                age(pod["metadata"].get("creationTimestamp")),
            )
        out.print(table)


def why(status: Json) -> str:
    """What a person should know: why it is not ready, else what keeps it from what load asks for."""
    ready, limited = condition(status, "Ready"), condition(status, "ScalingLimited")
    if ready.get("status") != "True":
        return str(ready.get("message", "not seen yet"))
    return str(limited.get("message", "")) if limited.get("reason") in UNMET else ""


def condition(status: Json, name: str) -> dict[str, Any]:
    """One condition of a status, empty where there is none."""
    found = (one for one in status.get("conditions") or () if one.get("type") == name)
    return dict(next(found, {}))


def _colored(value: str) -> str:
    color = {"True": "green", "False": "red"}.get(value, "yellow")
    return f"[{color}]{value}[/{color}]"

"""`r1 status`: a table of all R1Inferences, or one with its conditions and pods."""

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
    """Add name and namespace."""
    parser.add_argument("name", nargs="?", help="name of one R1Inference; all when absent")
    parser.add_argument(
        "-n", "--namespace", help="namespace; default: all namespaces, or 'default' with a name"
    )


async def run(options: argparse.Namespace) -> int:
    """Print the table or one resource."""
    try:
        async with await Api.connect() as api:
            if options.name:
                return await _one(api, options)
            return await _all(api, options)
    except KubeApiError as error:
        raise CommandFailed(str(error), FAILED) from error


async def _all(api: Api, options: argparse.Namespace) -> int:
    try:
        items = [
            item
            async for page in api.list_pages(R1INFERENCE, options.namespace)
            for item in page["items"]
        ]
    except NotFound:
        raise CommandFailed(
            "the CRD of R1Inference is not installed in this cluster: install the chart, or"
            " r1 crd | kubectl apply --server-side -f -",
            NOT_FOUND,
        ) from None
    if options.json:
        print_json(items)
        return OK
    if not items:
        console().print("There are no R1Inferences. Create one: kubectl apply -f examples/")
        return OK
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("NAMESPACE", "NAME", "READY", "DESIRED", "AVAILABLE", "MODE", "AGE", "MESSAGE"):
        table.add_column(heading, no_wrap=heading != "MESSAGE", overflow="fold")
    for item in items:
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
            summary(status),
        )
    console().print(table)
    return OK


async def _one(api: Api, options: argparse.Namespace) -> int:
    namespace = options.namespace or "default"
    resource = await api.get(R1INFERENCE, namespace, options.name)
    if resource is None:
        raise CommandFailed(f"R1Inference {namespace}/{options.name} does not exist", NOT_FOUND)
    if options.json:
        print_json(resource)
        return OK
    pods = [
        item
        async for page in api.list_pages(
            POD, namespace, label_selector=f"{Label.RESOURCE}={options.name}"
        )
        for item in page["items"]
    ]
    _print_one(resource, pods)
    return OK


def _print_one(resource: Json, pods: list[Json]) -> None:
    out, status = console(), resource.get("status") or {}
    out.print(f"[bold]{resource['metadata']['namespace']}/{resource['metadata']['name']}[/bold]")
    out.print(
        f"{status.get('availableReplicas', 0)} of {status.get('desiredReplicas', '?')} replicas"
        f" available, mode {status.get('mode', '-')}"
    )
    scale = status.get("lastScale")
    if scale:
        out.print(
            f"last scaled {age(scale['at'])} ago from {scale['from']} to {scale['to']} replicas:"
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


def summary(status: Json) -> str:
    """The message of Ready while it is not True, else that of a limit on the recommendation."""
    ready, limited = condition(status, "Ready"), condition(status, "ScalingLimited")
    if ready.get("status") != "True":
        return str(ready.get("message", "no status yet: no operator has reconciled it"))
    return str(limited.get("message", "")) if limited.get("reason") in UNMET else ""


def condition(status: Json, name: str) -> dict[str, Any]:
    """One condition of a status; empty if it does not exist."""
    matching = (one for one in status.get("conditions") or () if one.get("type") == name)
    return dict(next(matching, {}))


def _colored(value: str) -> str:
    color = {"True": "green", "False": "red"}.get(value, "yellow")
    return f"[{color}]{value}[/{color}]"

"""`r1 explain NAME`: the last scaling decisions, each with its message, its steps and all inputs.

A decision that changed the count is scored once its lead time has passed (`plan/scaling/scoring.py`).
The active operator has the decisions. The command finds it by its Lease and reads them through the pod
proxy of the API server, so that no port has to be opened; `--operator-url` uses another address.
"""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

import aiohttp

from r1_common.http_json import read_json
from r1_common.untrusted_json import InvalidJson
from r1_operator.cli.decision_view import print_decisions
from r1_operator.cli.output import FAILED, NOT_FOUND, OK, CommandFailed, console, print_json
from r1_operator.kube.client import Api, KubeApiError, NotFound
from r1_operator.kube.kinds import LEASE, POD, R1INFERENCE
from r1_operator.kube.lease import LEASE_LABEL
from r1_operator.plan.scaling.scoring import score

EXAMPLES = """\
examples:
  r1 explain production-r1                 show the last 10 decisions
  r1 explain production-r1 -n team-a --last 1
  r1 explain production-r1 --watch         refresh every 2 s until Ctrl-C
  r1 explain production-r1 --json          print JSON with all inputs
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add name, namespace, number of decisions and address of the operator."""
    parser.add_argument("name", help="name of the R1Inference")
    parser.add_argument("-n", "--namespace", default="default", help="namespace; default: default")
    parser.add_argument(
        "--last", type=int, default=10, metavar="N", help="number of decisions; default: 10"
    )
    parser.add_argument("--watch", action="store_true", help="refresh every 2 s")
    parser.add_argument(
        "--operator-url",
        metavar="URL",
        help="address of the operator instead of the API server's proxy",
    )


async def run(options: argparse.Namespace) -> int:
    """Print the decisions, once or every 2 s."""
    if options.last < 1:
        raise CommandFailed("--last must be at least 1", 2)
    while True:
        decisions = await _fetch(options)
        for decision, later in zip(decisions, score(decisions), strict=True):
            decision["score"] = None if later is None else later.to_json()
        shown = decisions[-options.last :]
        if options.json:
            print_json({"namespace": options.namespace, "name": options.name, "decisions": shown})
        else:
            out = console()
            if options.watch:
                out.clear()
            print_decisions(out, f"{options.namespace}/{options.name}", shown)
        if not options.watch:
            return OK
        await asyncio.sleep(2.0)


async def _fetch(options: argparse.Namespace) -> list[dict[str, Any]]:
    if options.operator_url:
        return await _from_url(options)
    try:
        async with await Api.connect() as api:
            return await _through_cluster(api, options)
    except KubeApiError as error:
        raise CommandFailed(str(error), FAILED) from error


async def _through_cluster(api: Api, options: argparse.Namespace) -> list[dict[str, Any]]:
    if await api.get(R1INFERENCE, options.namespace, options.name) is None:
        raise CommandFailed(_no_resource(options), NOT_FOUND)
    namespace, pod = await _active_operator(api)
    path = POD.path(namespace, f"{pod}:8080", "proxy")
    try:
        body = await api.request(
            "GET", f"{path}/decisions/{options.namespace}/{options.name}", attempts=1
        )
    except NotFound as error:
        raise CommandFailed(
            f"the operator {namespace}/{pod} has no decision for {options.name} yet, try again in a few"
            f" seconds ({error})",
            NOT_FOUND,
        ) from error
    return _decisions(body, f"the operator {namespace}/{pod}")


async def _active_operator(api: Api) -> tuple[str, str]:
    key, value = LEASE_LABEL
    async for page in api.list_pages(LEASE, label_selector=f"{key}={value}"):
        for lease in page["items"]:
            holder = lease["spec"].get("holderIdentity", "")
            if holder:
                return lease["metadata"]["namespace"], holder.rpartition("_")[0]
    raise CommandFailed(
        "no active operator was found: install the chart, check kubectl get leases -A, or set"
        " --operator-url",
        NOT_FOUND,
    )


async def _from_url(options: argparse.Namespace) -> list[dict[str, Any]]:
    base = options.operator_url.rstrip("/")
    url = f"{base}/decisions/{options.namespace}/{options.name}"
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session,
            session.get(url) as response,
        ):
            kind, body = response.headers.get("Content-Type", ""), await response.read()
        body = read_json(response.status, kind, body)
    except InvalidJson as error:
        raise CommandFailed(f"{url} {error}") from None
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        raise CommandFailed(f"{url}: {error or type(error).__name__}") from error
    if response.status == 404:
        raise CommandFailed(_no_resource(options), NOT_FOUND)
    if response.status != 200:
        message = body.get("error", "") if isinstance(body, dict) else ""
        raise CommandFailed(f"{url}: {response.status} {message}")
    return _decisions(body, url)


def _decisions(body: object, where: str) -> list[dict[str, Any]]:
    decisions = body.get("decisions") if isinstance(body, dict) else None
    if not isinstance(decisions, list) or not all(isinstance(one, dict) for one in decisions):
        raise CommandFailed(
            f"the response of {where} has no decisions: check that this is the address of the operator"
        )
    return decisions


def _no_resource(options: argparse.Namespace) -> str:
    return f"R1Inference {options.namespace}/{options.name} does not exist"

"""Routes, pods and API keys from files.

``--config`` is one JSON object; each route is a ``route.json`` with its pods beside it::

    {"routes": [{"namespace": "default", "name": "r1", "seatsPerReplica": 8, ...,
                 "endpoints": ["127.0.0.1:9000", {"address": "127.0.0.1:9001", "ready": false}]}]}

A changed file is read again.  An invalid version is reported once, and the earlier version stays in
force.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from r1_common.contracts.route import InvalidRoute, RouteSpec, parse_route
from r1_common.untrusted_json import convert_errors, parse_json
from r1_gateway.gateway import Gateway
from r1_gateway.http.upstream import split_address
from r1_gateway.tenants.keys import parse_keys

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class StaticConfig:
    """Routes in order, and the pods of each (address -> ready)."""

    routes: tuple[RouteSpec, ...]
    pods: dict[str, dict[str, bool]]


def parse_config(document: object) -> StaticConfig:
    """Read the ``--config`` document.

    Raises:
        InvalidRoute: a route or an endpoint is invalid; the message names it.
    """
    if not isinstance(document, dict) or not isinstance(document.get("routes"), list):
        raise InvalidRoute("the file must be a JSON object with a list 'routes'")
    routes: list[RouteSpec] = []
    pods: dict[str, dict[str, bool]] = {}
    for index, entry in enumerate(document["routes"]):
        try:
            with convert_errors(InvalidRoute, "the entry"):
                spec = parse_route(entry)
                pods[spec.key] = _endpoints(entry.get("endpoints", []))
        except InvalidRoute as error:
            raise InvalidRoute(f"routes[{index}]: {error}") from None
        routes.append(spec)
    if len(pods) != len(routes):
        raise InvalidRoute("two routes have the same namespace and name: keep one")
    return StaticConfig(tuple(routes), pods)


def _endpoints(entries: object) -> dict[str, bool]:
    if not isinstance(entries, list):
        raise InvalidRoute("endpoints must be a list")
    found: dict[str, bool] = {}
    for entry in entries:
        item = {"address": entry} if isinstance(entry, str) else entry
        if not isinstance(item, dict) or not isinstance(item.get("address"), str):
            raise InvalidRoute("endpoints: each must be 'host:port' or {address, ready}")
        try:
            split_address(item["address"])
        except ValueError as error:
            raise InvalidRoute(f"endpoints: {error}") from None
        found[item["address"]] = item.get("ready", True) is True
    return found


class FileWatch:
    """Reads a JSON file when it changes; an invalid version is reported once and skipped."""

    def __init__(self, path: Path, use: Callable[[object], None]) -> None:
        self.path = path
        self.errors = 0
        self.loaded = False
        self._use = use
        self._version: object = None
        self._reported = ""

    def check(self) -> None:
        """Read the file if it is new or changed."""
        try:
            status = self.path.stat()
            version = (status.st_mtime_ns, status.st_size, status.st_ino)
            if version == self._version:
                return
            self._use(parse_json(self.path.read_bytes()))
        except (OSError, ValueError) as error:  # JSON errors and InvalidRoute are ValueErrors
            self._report(str(error))
            return
        except Exception as error:  # no error in a file may end the watch
            logger.exception("%s", self.path)
            self._report(f"{type(error).__name__}: {error}")
            return
        self._version, self._reported, self.loaded = version, "", True

    def _report(self, problem: str) -> None:
        if problem != self._reported:
            self._reported = problem
            self.errors += 1
            effect = "keeping the earlier version" if self.loaded else "no version is in force"
            logger.error("%s cannot be used: %s; %s", self.path, problem, effect)

    async def run(self) -> None:
        """Check once a second, without end."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            self.check()


def watch_config(path: Path, gateway: Gateway) -> FileWatch:
    """Routes and pods of ``gateway`` from a ``--config`` file."""

    def use(document: object) -> None:
        config = parse_config(document)
        for key, readiness in config.pods.items():
            gateway.set_pods(key, readiness)
        gateway.set_routes(config.routes)

    return FileWatch(path, use)


def watch_keys(path: Path, gateway: Gateway) -> FileWatch:
    """API keys of ``gateway`` from a ``--keys-file``."""

    watch: FileWatch

    def use(document: object) -> None:
        keys = parse_keys(document, gateway.keys)
        watch.errors += len(keys.problems)
        for problem in keys.problems:
            logger.error("%s: %s", path, problem)
        gateway.keys = keys
        gateway.tokens.apply(keys.jwt, keys.tenants)
        gateway.usage.declare(sorted({caller.tenant for caller in keys.by_digest.values()}))

    watch = FileWatch(path, use)
    return watch

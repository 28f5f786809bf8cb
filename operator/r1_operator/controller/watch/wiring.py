"""Setup of the watches: kopf for the custom resources, reflectors for children and pods.

Only `@kopf.on.event` of kopf is used. Without create, update or timer handlers, kopf adds no finalizers
and no annotations; `@kopf.index` is not used, because its start-up is worse than quadratic. Reflectors
use a label selector on the server, so that other pods of the cluster cost nothing. kopf maintains its
watch (bookmarks, inactivity timeout, reconnects, credentials) and handles SIGTERM and SIGINT.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

import kopf
from kubernetes.aio.client import Configuration

from r1_operator.api.names import Label
from r1_operator.controller.watch.event_handler import EventHandler
from r1_operator.controller.watch.reflector import Reflector
from r1_operator.kube.client import Api
from r1_operator.kube.kinds import (
    CONFIG_MAP,
    CUSTOM_RESOURCES,
    DEPLOYMENT,
    POD,
    POD_DISRUPTION_BUDGET,
    R1INFERENCE,
    SERVICE,
    Kind,
)

REFLECTED = (DEPLOYMENT, SERVICE, CONFIG_MAP, POD_DISRUPTION_BUDGET, POD)
"""ServiceMonitors have their own reflector (`service_monitors.py`), because their API is optional."""

WATCHED = (R1INFERENCE, *REFLECTED)
"""Kinds of the stores of R1Inferences. The stores of R1Backtests are separate (`backtests.py`)."""


class _NoDiffBase(kopf.DiffBaseStorage):
    """A diff base without content, because no handler needs the last handled state.

    The default of kopf copies every object three times: more than half of the cost of an event,
    measured with 1,300 resources.
    """

    def build(self, **_: Any) -> Any:
        return {}

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        return None


class _NoProgress(kopf.ProgressStorage):
    """A progress storage without content, because `on.event` handlers have no progress."""

    def clear(self, *, essence: Any) -> Any:
        return essence

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        return None

    def purge(self, **_: Any) -> None:
        return None

    def touch(self, **_: Any) -> None:
        return None


async def watch(
    api: Api,
    handler_of: Callable[[Kind], EventHandler],
    *,
    namespaces: Sequence[str],
    stop: asyncio.Event,
) -> None:
    """Watch until `stop` is set or the process receives SIGTERM or SIGINT.

    kopf watches the custom resources, reflectors the children of R1Inferences. The handler of a kind
    gets its events.
    """
    registry = kopf.OperatorRegistry()
    _login_as(api.configuration, registry)
    for kind in CUSTOM_RESOURCES:
        _register_handler(kind, handler_of(kind), registry)
    logging.getLogger("kopf").setLevel(logging.WARNING)
    async with asyncio.TaskGroup() as group:
        reflectors = [
            group.create_task(
                Reflector(
                    api, handler_of(kind), kind, selector=Label.RESOURCE, namespaces=namespaces
                ).run(),
                name=f"reflector of {kind.plural}",
            )
            for kind in REFLECTED
        ]
        await kopf.operator(
            registry=registry,
            settings=_settings(),
            standalone=True,
            clusterwide=not namespaces,
            namespaces=namespaces,
            stop_flag=stop,
        )
        for reflector in reflectors:
            reflector.cancel()


def _register_handler(kind: Kind, handler: EventHandler, registry: kopf.OperatorRegistry) -> None:
    @kopf.on.event(kind.group, kind.version, kind.plural, id=kind.plural, registry=registry)
    async def on_event(event: kopf.RawEvent, **_: Any) -> None:
        obj: Any = event["object"]
        handler.handle_event(kind, event["type"], obj)


def _login_as(configuration: Configuration, registry: kopf.OperatorRegistry) -> None:
    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.ConnectionInfo:
        token = None
        for auth in (await configuration.auth_settings()).values():
            if auth["key"].lower() == "authorization":
                token = auth["value"].partition(" ")[2]
        return kopf.ConnectionInfo(
            server=configuration.host,
            ca_path=configuration.ssl_ca_cert,
            insecure=not configuration.verify_ssl,
            certificate_path=configuration.cert_file,
            private_key_path=configuration.key_file,
            token=token,
        )


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.peering.standalone = True
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 5
    settings.watching.server_timeout = 600
    settings.persistence.diffbase_storage = _NoDiffBase()
    settings.persistence.progress_storage = _NoProgress()
    settings.watching.chunk_size = 200  # limits the memory of a listing
    settings.queueing.idle_timeout = 0.1
    settings.process.ultimate_exiting_timeout = 20
    return settings

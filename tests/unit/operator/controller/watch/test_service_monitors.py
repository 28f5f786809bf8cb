"""The reflector of ServiceMonitors runs while their API is served."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from r1_operator.api.names import Label
from r1_operator.controller.liveness import Liveness
from r1_operator.controller.watch.event_handler import EventHandler
from r1_operator.controller.watch.service_monitors import ServiceMonitors
from r1_operator.kube.client import NotFound, RequestRefused, Unreachable
from r1_operator.kube.kinds import SERVICE_MONITOR, Json, Key, Kind
from r1_operator.kube.store import Stores
from r1_operator.metrics import OperatorMetrics

KEY = Key("ns", "chat")
MONITOR: Json = {
    "metadata": {
        "namespace": KEY.namespace,
        "name": KEY.name,
        "uid": "m",
        "resourceVersion": "7",
        "labels": {Label.RESOURCE.value: KEY.name},
    },
    "spec": {},
}


class World:
    """An API server with or without the kind; its watches end at once."""

    def __init__(self) -> None:
        self.error: Exception | None = NotFound("no such kind", status=404)
        self.changes = 0
        self.news = asyncio.Event()
        self.touched: list[Key] = []
        self.stores = Stores()
        handler = EventHandler(
            self.stores,
            enqueue=self.touched.append,
            liveness=Liveness(silent_seconds=60.0),
            metrics=OperatorMetrics(),
        )
        api: Any = self
        self.monitors = ServiceMonitors(
            api,
            handler,
            enabled=True,
            namespaces=(),
            period_seconds=0.01,
            on_change=self.changed,
        )

    def changed(self) -> None:
        self.changes += 1
        self.news.set()

    async def list_pages(self, kind: Kind, *_: Any, **__: Any) -> AsyncIterator[Json]:
        assert kind == SERVICE_MONITOR
        if self.error is not None:
            raise self.error
        yield {"metadata": {"resourceVersion": "7"}, "items": [dict(MONITOR)]}

    async def stream(self, *_: Any, **__: Any) -> Any:
        raise Unreachable("nobody there")

    async def reach(self, wanted: bool) -> None:
        """Wait until the API counts as served, or as not served."""
        async with asyncio.timeout(20):
            while self.monitors.served != wanted:
                await self.news.wait()
                self.news.clear()


async def test_the_reflector_runs_while_the_service_monitor_api_is_served() -> None:
    world = World()
    await world.monitors.check()
    assert not world.monitors.served
    running = asyncio.create_task(world.monitors.run())
    world.error = None
    await world.reach(True)
    async with asyncio.timeout(20):
        await world.stores.of(SERVICE_MONITOR).complete.wait()
    assert world.touched == [KEY], (
        "the reflector lists at once and does not wait for the next relist"
    )
    assert world.changes == 1
    world.error = RequestRefused("forbidden", status=403)
    await world.reach(False)
    assert world.changes == 2
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_server_errors_do_not_change_the_service_monitor_state() -> None:
    world = World()
    world.error = None
    await world.monitors.check()
    world.error = Unreachable("away")
    await world.monitors.check()
    assert world.monitors.served
    assert world.changes == 1


@pytest.mark.parametrize("error", [NotFound("x", status=404), RequestRefused("x", status=403)])
async def test_without_api_or_permission_there_are_no_service_monitors(error: Exception) -> None:
    world = World()
    world.error = error
    await world.monitors.check()
    assert not world.monitors.served

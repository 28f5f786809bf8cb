"""List and watch of a scripted API server with faults, and of a real one."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from r1_common.kube.access import KubeAccess, find_access
from r1_common.kube.list_watch import KubeObject
from r1_common.supervision import Supervisor
from r1_gateway.gateway import Gateway
from r1_gateway.kube.discovery import Discovery
from r1_gateway.kube.watched_objects import WatchedObjects
from scripted_pod import until


def thing(name: str, version: int) -> KubeObject:
    return {"metadata": {"namespace": "ns", "name": name, "resourceVersion": str(version)}}


class ScriptedApiServer:
    """Lists its objects; watches send what the test queues, and end on request."""

    def __init__(self) -> None:
        self.things: dict[str, KubeObject] = {}
        self.version = 1
        self.lists = 0
        self.watched_from: list[str] = []
        self.events: asyncio.Queue[object] = asyncio.Queue()
        self.fail_with: int | None = None

    async def answer(self, request: web.Request) -> web.StreamResponse:
        assert request.headers["Authorization"] == "Bearer t"
        if self.fail_with is not None:
            return web.Response(status=self.fail_with)
        if "watch" not in request.query:
            return self._page(request)
        self.watched_from.append(request.query["resourceVersion"])
        response = web.StreamResponse()
        await response.prepare(request)
        while (event := await self.events.get()) is not None:
            text = json.dumps(event).encode() + b"\n"
            await response.write(text[:7])  # lines may come in pieces
            await response.write(text[7:])
        return response

    def _page(self, request: web.Request) -> web.Response:
        """One object per page."""
        self.lists += 1
        at = int(request.query.get("continue", "0"))
        items = list(self.things.values())
        more = str(at + 1) if at + 1 < len(items) else ""
        return web.json_response(
            {
                "metadata": {"resourceVersion": str(self.version), "continue": more},
                "items": items[at : at + 1],
            }
        )

    def put(self, kind: str, item: KubeObject) -> None:
        self.events.put_nowait({"type": kind, "object": item})

    def end_watch(self) -> None:
        self.events.put_nowait(None)


@asynccontextmanager
async def watch_of(
    api: ScriptedApiServer,
) -> AsyncIterator[tuple[WatchedObjects, dict[str, KubeObject]]]:
    application = web.Application()
    application.router.add_get("/things", api.answer)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    view: dict[str, KubeObject] = {}

    def on_change(key: str, item: KubeObject | None) -> None:
        if item is None:
            del view[key]
        else:
            view[key] = item

    async def headers() -> dict[str, str]:
        return {"Authorization": "Bearer t"}

    access = KubeAccess(f"http://127.0.0.1:{runner.addresses[0][1]}", True, headers)
    async with aiohttp.ClientSession() as session:
        watch = WatchedObjects(session, access, "/things", "a=b", on_change, pause=lambda _: 0.01)
        task = asyncio.create_task(watch.run())
        yield watch, view
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await runner.cleanup()


async def test_objects_are_listed_in_pages_and_then_watched() -> None:
    api = ScriptedApiServer()
    api.things = {name: thing(name, 1) for name in "abc"}
    async with watch_of(api) as (watch, view):
        await until(lambda: len(api.watched_from) == 1)
        assert watch.synced
        assert set(view) == {"ns/a", "ns/b", "ns/c"}
        api.put("ADDED", thing("d", 2))
        api.put("DELETED", thing("a", 3))
        api.put("MODIFIED", thing("b", 4))
        api.put("BOOKMARK", {"metadata": {"resourceVersion": "9"}})
        api.end_watch()
        await until(lambda: len(api.watched_from) == 2)
        assert set(view) == {"ns/b", "ns/c", "ns/d"}
        assert view["ns/b"]["metadata"]["resourceVersion"] == "4"
        assert api.watched_from == ["1", "9"]  # it goes on where the bookmark says
        assert api.lists == 3  # the pages of one list


@pytest.mark.parametrize("in_stream", [True, False])
async def test_watch_error_410_lists_again_and_finds_deletions(in_stream: bool) -> None:
    api = ScriptedApiServer()
    api.things = {name: thing(name, 1) for name in "ab"}
    async with watch_of(api) as (watch, view):
        await until(lambda: len(api.watched_from) == 1)
        api.things = {"c": thing("c", 7)}
        api.version = 7
        if in_stream:
            api.put("ERROR", {"kind": "Status", "code": 410, "message": "too old"})
            api.end_watch()
        else:
            api.fail_with = 410
            api.end_watch()
            await asyncio.sleep(0.05)
            api.fail_with = None
        await until(lambda: len(api.watched_from) == 2)
        assert set(view) == {"ns/c"}
        assert api.watched_from[-1] == "7"
        assert watch.synced


async def test_the_last_state_stays_while_the_api_server_is_unreachable(
    caplog: pytest.LogCaptureFixture,
) -> None:
    api = ScriptedApiServer()
    api.things = {"a": thing("a", 1)}
    async with watch_of(api) as (watch, view):
        await until(lambda: len(api.watched_from) == 1)
        api.fail_with = 500
        api.end_watch()
        await until(lambda: "keeping the last state" in caplog.text)
        assert set(view) == {"ns/a"}
        assert watch.synced
        api.fail_with = None
        await until(lambda: len(api.watched_from) == 2)
        api.put("ADDED", thing("b", 2))
        await until(lambda: "ns/b" in view)
        api.end_watch()


async def test_discovery_waits_for_an_api_server_that_is_not_up_yet() -> None:
    api = ScriptedApiServer()
    api.fail_with = 503
    async with watch_of(api) as (watch, _):
        await asyncio.sleep(0.1)
        assert not watch.synced
        api.fail_with = None
        await until(lambda: watch.synced)


CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
Call = Callable[..., Awaitable[Any]]


@asynccontextmanager
async def api_client(kubeconfig: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Call]:
    """Calls to a real API server with the gateway's own access."""
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    access = await find_access()
    assert isinstance(access.tls, ssl.SSLContext)
    async with aiohttp.ClientSession() as session:

        async def call(method: str, path: str, body: object = None) -> Any:
            async with session.request(
                method,
                access.url + path,
                json=body,
                headers={
                    **await access.headers(),
                    "Content-Type": "application/merge-patch+json"
                    if method == "PATCH"
                    else "application/json",
                },
                ssl=access.tls,
            ) as answer:
                assert answer.status < 300, await answer.text()
                return await answer.json()

        yield call


async def reported(call: Call) -> list[str]:
    """ConfigMaps that an Event is about."""
    events = await call("GET", "/apis/events.k8s.io/v1/namespaces/default/events")
    return [e["regarding"]["name"] for e in events["items"] if e["reason"] == "InvalidRoute"]


@pytest.mark.apiserver
async def test_routes_and_pods_of_a_real_api_server(
    apiserver: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = Gateway()
    route = {"namespace": "default", "name": "gw-m", "models": ["gw-chat"], "seatsPerReplica": 3}
    config_map: dict[str, Any] = {
        "metadata": {"name": "gw-m-route", "labels": {"deepseek.ai/route": "true"}},
        "data": {"route.json": json.dumps(route)},
    }
    pods: dict[str, Any] = {
        "metadata": {
            "name": "gw-m-1",
            "labels": {"kubernetes.io/service-name": "gw-m", "deepseek.ai/r1inference": "gw-m"},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8000, "protocol": "TCP"}],
        "endpoints": [{"addresses": ["10.1.2.3"], "conditions": {"ready": True}}],
    }
    async with api_client(apiserver, monkeypatch) as call:
        await call("POST", CONFIG_MAPS, config_map)
        discovery = Discovery(gateway, namespace="default")
        await discovery.connect()
        supervisor = Supervisor()
        discovery.start(supervisor)
        try:
            await until(lambda: discovery.synced and "default/gw-m" in gateway.routes)
            assert gateway.models.routes["gw-chat"] == "default/gw-m"
            pool = gateway.routes["default/gw-m"].admission.pool
            assert pool.ready == 0
            await call("POST", SLICES, pods)
            await until(lambda: pool.seats == 3)
            assert [endpoint.address for endpoint in pool] == ["10.1.2.3:8000"]
            pods["endpoints"][0]["conditions"] = {"ready": True, "terminating": True}
            await call("PATCH", f"{SLICES}/gw-m-1", pods)
            await until(lambda: pool.ready == 0)
            bad = {"data": {"route.json": json.dumps({**route, "seatsPerReplica": 0})}}
            await call("PATCH", f"{CONFIG_MAPS}/gw-m-route", bad)
            await until(lambda: discovery.errors == 1)
            async with asyncio.timeout(20):
                while "gw-m-route" not in await reported(call):  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
            assert gateway.routes["default/gw-m"].spec.seats_per_replica == 3
            await call("DELETE", f"{CONFIG_MAPS}/gw-m-route")
            await until(lambda: "default/gw-m" not in gateway.routes)
            await call("DELETE", f"{SLICES}/gw-m-1")
        finally:
            await supervisor.stop()
            await discovery.close()

"""An invalid object is rejected by name; other objects and all tasks are unaffected."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from r1_gateway.options import GatewayOptions
from r1_gateway.server import GatewayServer
from r1_gateway.static_config import FileWatch
from scripted_pod import ScriptedPod, until

OpenGateway = Callable[..., Awaitable[GatewayServer]]
NewPod = Callable[..., Awaitable[ScriptedPod]]
DEEP = "[" * 100_000


def config_map(name: str, text: str) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "default", "name": name, "uid": f"u-{name}"},
        "data": {"route.json": text},
    }


def route(name: str) -> str:
    return json.dumps({"namespace": "default", "name": name, "seatsPerReplica": 1})


class ApiServer:
    """Lists and watches of two kinds, and the Events that were created."""

    def __init__(self) -> None:
        self.lists: dict[str, list[Any]] = {"configmaps": [], "endpointslices": []}
        self.events: dict[str, asyncio.Queue[bytes]] = {
            kind: asyncio.Queue() for kind in self.lists
        }
        self.created: list[dict[str, Any]] = []
        self.refuse_events = False

    async def read(self, request: web.Request) -> web.StreamResponse:
        kind = request.path.rpartition("/")[2]
        if "watch" not in request.query:
            return web.json_response(
                {"metadata": {"resourceVersion": "1"}, "items": self.lists[kind]}
            )
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(await self.events[kind].get() + b"\n")

    async def create(self, request: web.Request) -> web.Response:
        if self.refuse_events:
            return web.json_response({}, status=403)
        self.created.append(await request.json())
        return web.json_response({}, status=201)

    def put(self, kind: str, item: object, type_: object = "ADDED") -> None:
        self.events[kind].put_nowait(json.dumps({"type": type_, "object": item}).encode())


@asynccontextmanager
async def gateway_of(
    api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[GatewayServer]:
    application = web.Application()
    application.router.add_get("/{path:.*}", api.read)
    application.router.add_post("/{path:.*}", api.create)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    kubeconfig = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [
            {"name": "c", "cluster": {"server": f"http://127.0.0.1:{runner.addresses[0][1]}"}}
        ],
        "users": [{"name": "u", "user": {"token": "t"}}],
    }
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(kubeconfig))
    monkeypatch.setenv("KUBECONFIG", str(path))
    server = GatewayServer(
        GatewayOptions(
            host="127.0.0.1", port=0, admin_host="127.0.0.1", admin_port=0, linger_seconds=0
        )
    )
    await server.start()
    yield server
    stop_now = asyncio.Event()
    stop_now.set()
    await server.stop(stop_now)
    await runner.cleanup()


async def page(server: GatewayServer, path: str) -> tuple[int, str]:
    url = f"http://127.0.0.1:{server.admin_port}{path}"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status, await answer.text()


BAD_ROUTES = {
    "nested too deeply": DEEP,
    "a number that no float holds": route("bad")[:-1]
    + ', "timeouts": {"totalSeconds": 1'
    + "0" * 400
    + "}}",
    "half a surrogate pair": route("bad")[:-1] + ', "models": ["\\ud800"]}',
    "a long integer": route("bad")[:-1] + ', "timeouts": {"totalSeconds": ' + "9" * 5000 + "}}",
    "not JSON": "{",
    "a list": "[]",
    "too large": json.dumps(" " * (1 << 20)),
    "a deep class": route("bad")[:-1] + ', "defaultClass": ' + "[" * 900 + "]" * 900 + "}",
    "NaN": route("bad")[:-1] + ', "timeouts": {"totalSeconds": NaN}}',
    "timeouts of zero": route("bad")[:-1] + ', "timeouts": {"totalSeconds": 0}}',
}


@pytest.mark.parametrize("case", BAD_ROUTES)
async def test_an_invalid_route_is_rejected_by_name_and_later_routes_are_served(
    case: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    api = ApiServer()
    api.lists["configmaps"] = [config_map("bad-route", BAD_ROUTES[case])]
    async with gateway_of(api, tmp_path, monkeypatch) as server:
        await until(lambda: server.not_ready_reason() is None)
        api.put("configmaps", config_map("good-route", route("good")))
        await until(lambda: "good" in server.gateway.models.routes)
        assert "ConfigMap default/bad-route" in caplog.text
        await until(lambda: len(api.created) == 1)
        event = api.created[0]
        assert event["regarding"]["name"] == "bad-route"
        assert (event["type"], event["reason"]) == ("Warning", "InvalidRoute")
        _, text = await page(server, "/metrics")
        assert "r1_gateway_invalid_configurations_total 1.0" in text
        assert (
            'r1_gateway_invalid_configmaps{inference_namespace="default",configmap="bad-route"} 1.0'
            in text
        )
        assert await page(server, "/healthz") == (200, "ok\n")
        api.put("configmaps", config_map("bad-route", route("bad")), "MODIFIED")
        await until(lambda: "bad" in server.gateway.models.routes)
        assert "bad-route" not in (await page(server, "/metrics"))[1]


async def test_a_rejected_event_affects_no_route(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = ApiServer()
    api.refuse_events = True
    api.lists["configmaps"] = [config_map("bad-route", DEEP)]
    async with gateway_of(api, tmp_path, monkeypatch) as server:
        api.put("configmaps", config_map("good-route", route("good")))
        await until(lambda: "good" in server.gateway.models.routes)
        assert await page(server, "/healthz") == (200, "ok\n")


NO_OBJECTS: dict[str, Any] = {
    "null": None,
    "a list": [],
    "text": "x",
    "empty": {},
    "metadata is text": {"metadata": "x"},
    "no name": {"metadata": {"namespace": "default"}},
    "the name is a list": {"metadata": {"namespace": "default", "name": []}},
    "data is text": {"metadata": {"namespace": "default", "name": "x"}, "data": "x"},
    "labels are text": {"metadata": {"namespace": "default", "name": "x", "labels": "x"}},
    "ports are numbers": {
        "metadata": {"name": "x", "labels": {"kubernetes.io/service-name": "s"}},
        "ports": [1],
    },
}


@pytest.mark.parametrize("case", NO_OBJECTS)
@pytest.mark.parametrize("by", ["list", "watch"])
async def test_an_object_of_no_known_shape_does_not_stop_a_watch(
    case: str, by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = ApiServer()
    slice_ = {
        "metadata": {
            "namespace": "default",
            "name": "s",
            "labels": {"kubernetes.io/service-name": "good"},
        },
        "ports": [{"port": 9}],
        "endpoints": [{"addresses": [7]}, "x", {"addresses": ["10.0.0.1"]}],
    }
    for kind, good in (("configmaps", config_map("r", route("good"))), ("endpointslices", slice_)):
        if by == "list":
            api.lists[kind] = [NO_OBJECTS[case], good]
        else:
            api.put(kind, NO_OBJECTS[case])
            api.put(kind, good)
    async with gateway_of(api, tmp_path, monkeypatch) as server:
        await until(lambda: "default/good" in server.gateway.routes)
        pool = server.gateway.routes["default/good"].admission.pool
        await until(lambda: [endpoint.address for endpoint in pool] == ["10.0.0.1:9"])
        assert await page(server, "/healthz") == (200, "ok\n")
        _, text = await page(server, "/metrics")
        assert "r1_gateway_invalid_configurations_total 0.0" not in text


@pytest.mark.parametrize(
    "line", [b"{", b"[]", b"null", b'{"type": "ADDED"}', DEEP.encode(), b"\xff"]
)
async def test_an_invalid_watch_event_causes_a_new_list(
    line: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = ApiServer()
    async with gateway_of(api, tmp_path, monkeypatch) as server:
        await until(lambda: server.not_ready_reason() is None)
        api.lists["configmaps"] = [config_map("r", route("good"))]
        api.events["configmaps"].put_nowait(line)
        await until(lambda: "good" in server.gateway.models.routes)


@pytest.mark.parametrize(
    "text", [DEEP, "[]", "{", '{"routes": [[]]}', '{"routes": 3}', "\x00", "1e999"]
)
async def test_a_config_file_of_any_text_keeps_the_earlier_one(
    text: str, tmp_path: Path, open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    server = await open_gateway(await new_pod())
    good = (tmp_path / "routes-0.json").read_text()
    (tmp_path / "routes-0.json").write_text(text)
    for _ in range(100):
        if "invalid_configurations_total 1.0" in (await page(server, "/metrics"))[1]:
            break
        await asyncio.sleep(0.1)
    else:
        raise AssertionError("the file was not counted")
    assert "default/m" in server.gateway.routes
    changed = good.replace('"chat"', '"other"')
    (tmp_path / "routes-0.json").write_text(changed)
    await until(lambda: "other" in server.gateway.models.routes)


async def test_a_task_that_fails_is_started_again_and_shows_in_healthz_metrics_and_log(
    open_gateway: OpenGateway,
    new_pod: NewPod,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    runs = 0

    async def fails_once(self: FileWatch) -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise ZeroDivisionError("a fault of the code itself")
        await asyncio.sleep(3600)

    monkeypatch.setattr(FileWatch, "run", fails_once)
    with caplog.at_level(logging.ERROR):
        server = await open_gateway(await new_pod())
        await until(lambda: runs == 2)
    status, text = await page(server, "/healthz")
    assert status == 200  # restarting the process would not mend it
    assert "watch of" in text
    assert "ZeroDivisionError" in text
    assert "Traceback" in caplog.text
    _, metrics = await page(server, "/metrics")
    assert 'r1_gateway_background_task_restarts_total{task="deadline sweep"} 0.0' in metrics
    assert 'routes-0.json"} 1.0' in metrics

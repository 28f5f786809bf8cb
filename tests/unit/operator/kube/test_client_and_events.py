"""The API client with a scripted server, and the Events that it writes."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio.client import Configuration

from r1_operator.kube.client import (
    Api,
    Busy,
    Conflict,
    KubeApiError,
    NotFound,
    NotLeader,
    RequestRefused,
    RetryPolicy,
    Unreachable,
)
from r1_operator.kube.events import EventSpec, EventWriter
from r1_operator.kube.kinds import DEPLOYMENT, R1INFERENCE, Key

KEY = Key("ns", "r1")


class Server:
    """Returns the given responses, then an empty object; records the requests."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, Any, dict[str, str]]] = []
        self.received: list[web.Request] = []
        self.bodies: list[Any] = []
        self.delay = 0.0
        self.url = ""

    def then(self, status: int, body: Any = None, **headers: str) -> None:
        self.answers.append((status, body or {}, headers))

    async def handle(self, request: web.Request) -> web.Response:
        self.received.append(request)
        self.bodies.append(await request.json() if request.can_read_body else None)
        await asyncio.sleep(self.delay)
        status, body, headers = self.answers.pop(0) if self.answers else (200, {}, {})
        return web.json_response(body, status=status, headers=headers)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """A running server."""
    it = Server()
    app = web.Application()
    app.router.add_route("*", "/{any:.*}", it.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    it.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield it
    await runner.cleanup()


@pytest.fixture
async def api(server: Server) -> AsyncIterator[Api]:
    """A client of the server with short retries."""
    configuration = type.__call__(Configuration)
    configuration.host = server.url
    retry = RetryPolicy(attempts=3, base_seconds=0.01, cap_seconds=0.05)
    async with Api(configuration, retry=retry, timeout_seconds=5.0) as client:
        yield client


async def test_apply_is_server_side_with_field_manager_and_force(server: Server, api: Api) -> None:
    await api.apply(DEPLOYMENT, *KEY, {"spec": {"replicas": 1}})
    (request,) = server.received
    assert request.method == "PATCH"
    assert request.path == "/apis/apps/v1/namespaces/ns/deployments/r1"
    assert dict(request.query) == {"fieldManager": "r1-operator", "force": "true"}
    assert request.headers["Content-Type"] == "application/apply-patch+yaml"
    assert server.bodies == [{"spec": {"replicas": 1}}]
    assert api.log.writes == 1


async def test_a_request_to_a_busy_server_is_retried(server: Server, api: Api) -> None:
    server.then(500)
    server.then(429, **{"Retry-After": "1"})
    server.then(200, {"kind": "Deployment"})
    assert await api.get(DEPLOYMENT, *KEY) == {"kind": "Deployment"}
    assert [record.status for record in api.log.recent] == [500, 429, 200]
    assert api.log.writes == 0


@pytest.mark.parametrize(
    ("status", "kind", "requests"),
    [
        (404, NotFound, 1),
        (409, Conflict, 1),
        (422, RequestRefused, 1),
        (403, RequestRefused, 1),
        (503, Busy, 3),
    ],
)
async def test_errors_have_their_class_and_the_server_message(
    server: Server, api: Api, status: int, kind: type[KubeApiError], requests: int
) -> None:
    for _ in range(requests):
        server.then(status, {"message": "spec.x: is wrong", "reason": "Because"})
    with pytest.raises(kind, match=r"spec\.x: is wrong") as raised:
        await api.apply(DEPLOYMENT, *KEY, {})
    assert raised.value.reason == "Because"
    assert len(server.received) == requests


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (500, "failed to create typed patch object (ns/r1): .spec.x: field not declared in schema"),
        (500, "failed to convert new object (ns/r1) to proper version: quantities must match x"),
        (500, 'admission webhook "p.io" denied the request: no'),
        (409, 'admission webhook "p.io" denied the request: no'),
        (404, 'admission webhook "p.io" denied the request: no'),
        (503, "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no"),
    ],
)
async def test_a_content_error_is_a_rejection_with_any_status_code(
    server: Server, api: Api, status: int, message: str
) -> None:
    server.then(status, {"message": message})
    with pytest.raises(RequestRefused) as raised:
        await api.apply(DEPLOYMENT, *KEY, {})
    assert raised.value.detail == message
    assert len(server.received) == 1


async def test_a_timed_out_write_is_not_retried_by_the_client(server: Server, api: Api) -> None:
    server.delay = 30.0
    with pytest.raises(Unreachable):
        await api.request("PATCH", "/x", body={}, timeout_seconds=0.2)
    assert [record.status for record in api.log.recent] == [0]


async def test_a_missing_response_raises_unreachable(server: Server, api: Api) -> None:
    server.delay = 30.0
    with pytest.raises(Unreachable):
        await api.request("GET", "/x", timeout_seconds=0.05, attempts=2)
    assert [record.status for record in api.log.recent] == [0, 0]


async def test_writes_need_the_lease(server: Server, api: Api) -> None:
    api.may_write = lambda: False
    with pytest.raises(NotLeader):
        await api.apply(DEPLOYMENT, *KEY, {})
    assert await api.get(DEPLOYMENT, *KEY) == {}, "reading is free"
    assert [request.method for request in server.received] == ["GET"]


async def test_delete_has_a_uid_precondition_and_accepts_not_found(
    server: Server, api: Api
) -> None:
    assert await api.delete(DEPLOYMENT, *KEY, uid="u") is True
    assert server.bodies[0]["preconditions"] == {"uid": "u"}
    server.then(404)
    assert await api.delete(DEPLOYMENT, *KEY) is False
    server.then(409)
    assert await api.delete(DEPLOYMENT, *KEY, uid="other") is False


async def test_list_follows_continue_tokens_and_accepts_null_items(
    server: Server, api: Api
) -> None:
    server.then(200, {"metadata": {"continue": "abc"}, "items": [{"a": 1}]})
    server.then(200, {"metadata": {}, "items": None})
    pages = [page["items"] async for page in api.list_pages(R1INFERENCE, label_selector="x")]
    assert pages == [[{"a": 1}], []]
    assert server.received[1].query["continue"] == "abc"


def notice(note: str = "From 1 to 2.", uid: str = "u") -> EventSpec:
    return EventSpec(KEY, uid, "ScaledUp", note, action="Scale")


async def test_an_event_has_reason_and_object_and_is_deduplicated(server: Server, api: Api) -> None:
    now = [0.0]
    writer = EventWriter(api, identity="me", quiet_seconds=600, burst=3, clock=lambda: now[0])
    running = asyncio.create_task(writer.run())
    for _ in range(5):
        writer.emit(notice())
    await _until(lambda: len(server.bodies) == 1)
    event = server.bodies[0]
    assert event["apiVersion"] == "events.k8s.io/v1"
    assert event["reason"] == "ScaledUp"
    assert event["action"] == "Scale"
    assert event["regarding"]["uid"] == "u"
    assert event["reportingController"] == "deepseek.ai/r1-operator"
    for n in range(10):
        writer.emit(notice(f"other {n}"))
    await _until(lambda: len(server.bodies) == 3)
    await asyncio.sleep(0.1)
    assert len(server.bodies) == 3, "three about one object in ten minutes are enough"
    writer.emit(notice(uid="another"))
    now[0] = 700.0
    writer.emit(notice())
    await _until(lambda: len(server.bodies) == 5)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_rejected_event_is_dropped(server: Server, api: Api) -> None:
    writer = EventWriter(api, identity="me")
    running = asyncio.create_task(writer.run())
    server.then(403)
    writer.emit(notice())
    writer.emit(notice("next"))
    await _until(lambda: len(server.bodies) == 2)
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def _until(holds: Any) -> None:
    for _ in range(500):
        if holds():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it did not come to be")

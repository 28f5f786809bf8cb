"""The reflector with an API server that fails in several ways."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from aiohttp import web
from kubernetes.aio.client import Configuration

from r1_operator.api.names import Label
from r1_operator.controller.liveness import Liveness
from r1_operator.controller.watch.event_handler import EventHandler
from r1_operator.controller.watch.reflector import Reflector
from r1_operator.kube.client import Api, RetryPolicy
from r1_operator.kube.kinds import DEPLOYMENT, Json, Key
from r1_operator.kube.store import Stores
from r1_operator.metrics import OperatorMetrics


def deployment(name: str, version: int, *, namespace: str = "ns", uid: str = "") -> Json:
    """A list item, which has no kind."""
    return {
        "metadata": {
            "namespace": namespace,
            "name": name,
            "uid": uid or f"uid-{name}",
            "resourceVersion": str(version),
            "labels": {Label.RESOURCE.value: name},
        },
        "spec": {"replicas": 1},
    }


class ApiServer:
    """An API server with two objects per page and scripted watch events."""

    def __init__(self) -> None:
        self.objects: list[Json] = []
        self.version = 10
        self.listings = 0
        self.watched_from: list[str] = []
        self.queries: list[dict[str, str]] = []
        self.events: asyncio.Queue[Json | None] = asyncio.Queue()
        self.answer_lists_with = 200
        self.answer_watches_with = 200
        self.omit_items = False

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.queries.append(dict(request.query))
        if "watch" in request.query:
            return await self._watch(request)
        if self.answer_lists_with != 200:
            return web.json_response({"message": "injected"}, status=self.answer_lists_with)
        namespace = request.match_info.get("namespace")
        mine = [o for o in self.objects if namespace in (None, o["metadata"]["namespace"])]
        start = int(request.query.get("continue", "0"))
        self.listings += start == 0
        if self.omit_items:
            return web.json_response({"metadata": {"resourceVersion": str(self.version)}})
        more = str(start + 2) if start + 2 < len(mine) else ""
        return web.json_response(
            {
                "metadata": {"resourceVersion": str(self.version), "continue": more},
                "items": mine[start : start + 2] or None,
            }
        )

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        if self.answer_watches_with != 200:
            return web.json_response({"message": "injected"}, status=self.answer_watches_with)
        self.watched_from.append(request.query["resourceVersion"])
        response = web.StreamResponse()
        await response.prepare(request)
        while (event := await self.events.get()) is not None:
            text = orjson.dumps(event) + b"\n"
            await response.write(text[:9])  # a line may come in pieces
            await response.write(text[9:])
        return response

    def tell(self, event_type: str, obj: Json) -> None:
        """A watch event, whose object has its kind."""
        named = {"apiVersion": DEPLOYMENT.api_version, "kind": DEPLOYMENT.name, **obj}
        self.events.put_nowait({"type": event_type, "object": named})

    def end_watch(self) -> None:
        self.events.put_nowait(None)


class Reflection:
    """The store and the enqueued keys of a reflector."""

    def __init__(
        self, reflector: Reflector, stores: Stores, marked: list[Key], metrics: OperatorMetrics
    ) -> None:
        self.reflector = reflector
        self.store = stores.children[DEPLOYMENT.name]
        self.marked = marked
        self.metrics = metrics

    def names(self) -> set[str]:
        return {key.name for key in self.store.objects}


@pytest.fixture
def server() -> ApiServer:
    return ApiServer()


@asynccontextmanager
async def reflecting(
    server: ApiServer, namespaces: tuple[str, ...] = ()
) -> AsyncIterator[Reflection]:
    app = web.Application()
    app.router.add_get("/apis/apps/v1/deployments", server.answer)
    app.router.add_get("/apis/apps/v1/namespaces/{namespace}/deployments", server.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    configuration = type.__call__(Configuration)
    configuration.host = f"http://127.0.0.1:{runner.addresses[0][1]}"
    stores, marked, metrics = Stores(), list[Key](), OperatorMetrics()
    handler = EventHandler(
        stores, enqueue=marked.append, liveness=Liveness(silent_seconds=60), metrics=metrics
    )
    async with Api(configuration, retry=RetryPolicy(attempts=1)) as api:
        reflector = Reflector(
            api, handler, DEPLOYMENT, selector=Label.RESOURCE, namespaces=namespaces
        )
        task = asyncio.create_task(reflector.run())
        yield Reflection(reflector, stores, marked, metrics)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await runner.cleanup()


async def until(holds: Callable[[], Any]) -> None:
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110 (stores are plain, nothing tells of them)
            await asyncio.sleep(0.01)


async def test_all_pages_are_stored_before_the_store_is_complete(server: ApiServer) -> None:
    server.objects = [deployment(name, 3) for name in "abcde"]
    async with reflecting(server) as reflected:
        await asyncio.wait_for(reflected.store.complete.wait(), 30)
        assert reflected.names() == set("abcde")
        assert sorted(reflected.marked) == [Key("ns", name) for name in "abcde"]
        await until(lambda: server.watched_from)
        assert server.watched_from == ["10"], "the watch begins where the listing was taken"
        assert all(query["labelSelector"] == Label.RESOURCE for query in server.queries)
        count = reflected.metrics.watch_events.labels(DEPLOYMENT.name)
        assert count._value.get() == 5


async def test_an_empty_listing_completes_the_store(server: ApiServer) -> None:
    async with reflecting(server) as reflected:
        await asyncio.wait_for(reflected.store.complete.wait(), 30)
        assert reflected.names() == set()


async def test_watch_events_update_the_store_and_enqueue_the_resource(server: ApiServer) -> None:
    server.objects = [deployment("a", 3), deployment("b", 4)]
    async with reflecting(server) as reflected:
        await until(lambda: server.watched_from)
        reflected.marked.clear()
        server.tell("ADDED", deployment("c", 11))
        server.tell("DELETED", deployment("a", 12))
        server.tell("BOOKMARK", {"metadata": {"resourceVersion": "20"}})
        await until(lambda: reflected.names() == {"b", "c"})
        assert reflected.marked == [Key("ns", "c"), Key("ns", "a")]
        server.end_watch()
        await until(lambda: len(server.watched_from) == 2)
        assert server.watched_from[1] == "20", "taken up where it stopped"
        assert server.listings == 1


async def test_a_listed_object_equals_its_watch_event(server: ApiServer) -> None:
    """A list omits kind and apiVersion; the synced hash has to survive the next event."""
    server.objects = [deployment("a", 3)]
    async with reflecting(server) as reflected:
        await until(lambda: server.watched_from)
        listed = reflected.store.get(Key("ns", "a"))
        assert listed is not None
        listed.synced_hash = "hash"
        server.tell("MODIFIED", deployment("a", 11))
        await until(lambda: reflected.store.objects[Key("ns", "a")].version == 11)
        assert reflected.store.objects[Key("ns", "a")].synced_hash == "hash"
        assert reflected.store.objects[Key("ns", "a")].load()["kind"] == "Deployment"


@pytest.mark.parametrize("in_stream", [True, False])
async def test_an_expired_version_relists_and_removes_deleted_objects(
    server: ApiServer, in_stream: bool
) -> None:
    server.objects = [deployment("a", 3), deployment("b", 4), deployment("c", 5)]
    async with reflecting(server) as reflected:
        await until(lambda: server.watched_from)
        reflected.marked.clear()
        server.objects = [
            deployment("b", 4),
            deployment("c", 33, uid="another"),
            deployment("d", 34),
        ]
        server.version = 40
        if in_stream:
            server.tell("ERROR", {"code": 410, "message": "too old"})
        else:
            server.answer_watches_with = 410
        server.end_watch()
        await until(lambda: server.listings > 1)
        server.answer_watches_with = 200
        await until(lambda: server.watched_from[-1] == "40")
        assert reflected.names() == set("bcd")
        assert reflected.store.objects[Key("ns", "c")].uid == "another"
        assert set(reflected.marked) == {Key("ns", "a"), Key("ns", "c"), Key("ns", "d")}


async def test_a_failing_list_is_retried_and_the_store_stays(
    server: ApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.answer_lists_with = 500
    server.objects = [deployment("a", 3)]
    async with reflecting(server) as reflected:
        await until(lambda: "watch of deployments failed, retrying: GET" in caplog.text)
        assert not reflected.store.complete.is_set(), (
            "nothing known is not the same as nothing there"
        )
        server.answer_lists_with = 200
        await asyncio.wait_for(reflected.store.complete.wait(), 30)
        await until(lambda: server.watched_from)
        server.tell("ERROR", {"code": 500, "message": "etcd is away"})
        await until(lambda: "etcd is away" in caplog.text)
        assert reflected.names() == {"a"}
        server.end_watch()
        await until(lambda: len(server.watched_from) == 2)
        assert server.listings == 1, "an error is no reason to list again"


async def test_a_list_without_items_removes_nothing(server: ApiServer) -> None:
    server.objects = [deployment("a", 3)]
    async with reflecting(server) as reflected:
        await until(lambda: server.watched_from)
        server.omit_items = True
        server.tell("ERROR", {"code": 410, "message": "too old"})
        await until(lambda: server.listings > 2)
        assert reflected.names() == {"a"}


async def test_each_namespace_is_listed_and_all_complete_the_store(
    server: ApiServer,
) -> None:
    server.objects = [deployment("a", 3, namespace="one"), deployment("b", 4, namespace="two")]
    async with reflecting(server, ("one", "two")) as reflected:
        await asyncio.wait_for(reflected.store.complete.wait(), 30)
        assert set(reflected.store.objects) == {Key("one", "a"), Key("two", "b")}
        assert server.listings == 2


async def test_a_malformed_object_does_not_end_a_watch(
    server: ApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    broken = deployment("broken", 4)
    broken["spec"] = None
    server.objects = [deployment("a", 3), broken, deployment("c", 5)]
    async with reflecting(server) as reflected:
        await asyncio.wait_for(reflected.store.complete.wait(), 30)
        assert reflected.names() == {"a", "c"}
        assert "malformed Deployment broken is ignored" in caplog.text
        server.tell(
            "MODIFIED", {**broken, "metadata": {**broken["metadata"], "resourceVersion": "11"}}
        )
        server.tell("ADDED", deployment("d", 12))
        await until(lambda: reflected.names() == {"a", "c", "d"})
        assert server.listings == 1


ODD_EVENTS: list[Any] = [
    [],
    5,
    "text",
    {},
    {"type": "ADDED"},
    {"type": "ADDED", "object": None},
    {"type": "ADDED", "object": []},
    {"type": "ADDED", "object": {}},
    {"type": "MODIFIED", "object": {"metadata": None}},
    {"type": "MODIFIED", "object": {"metadata": []}},
    {"type": "MODIFIED", "object": {"metadata": {"name": "x"}}},
    {"type": "MODIFIED", "object": {"metadata": {"name": ["x"], "resourceVersion": 7}}},
    {"type": "MODIFIED", "object": {"metadata": {"name": "x", "resourceVersion": None}}},
    {"type": "DELETED", "object": {"metadata": {"labels": 5}}},
    {"type": "DELETED", "object": None},
    {"type": "BOOKMARK"},
    {"type": "BOOKMARK", "object": {"metadata": {}}},
    {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": {}}}},
    {"type": ["ADDED"], "object": {}},
    {"object": {"metadata": {"resourceVersion": ""}}},
]


@pytest.mark.parametrize("event", ODD_EVENTS, ids=lambda event: orjson.dumps(event).decode())
async def test_a_malformed_event_is_ignored_and_the_watch_continues(
    server: ApiServer, event: Any
) -> None:
    server.objects = [deployment("a", 3)]
    async with reflecting(server) as reflected:
        await until(lambda: server.watched_from)
        server.events.put_nowait(event)
        server.tell("ADDED", deployment("b", 11))
        await until(lambda: reflected.names() == {"a", "b"})
        assert server.watched_from == ["10"], "the same watch brought both"
        assert server.listings == 1


@pytest.mark.parametrize("error", [None, [], {}, {"code": "410"}, {"code": 500.5}, {"code": [1]}])
async def test_a_malformed_error_event_restarts_the_watch(server: ApiServer, error: Any) -> None:
    async with reflecting(server) as reflected:
        await until(lambda: server.watched_from)
        server.events.put_nowait({"type": "ERROR", "object": error})
        await until(lambda: len(server.watched_from) == 2)
        server.events.put_nowait(None)  # for the first watch, whose reader has gone
        server.tell("ADDED", deployment("b", 11))
        server.tell("ADDED", deployment("b", 11))
        await until(lambda: reflected.names() == {"b"})


@pytest.mark.parametrize(
    "item",
    [
        None,
        5,
        "text",
        [],
        {},
        {"metadata": None},
        {"metadata": []},
        {"metadata": {"name": {}}},
        {"metadata": {"name": "x", "namespace": [], "uid": "u"}},
        {"metadata": {"name": "x", "uid": "u", "resourceVersion": 5}, "spec": {}},
    ],
    ids=lambda item: orjson.dumps(item).decode(),
)
async def test_a_malformed_listed_object_is_ignored(
    server: ApiServer, item: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        if "watch" in request.query:
            return await server._watch(request)
        items = [deployment("a", 3), item, deployment("b", 4)]
        return web.json_response({"metadata": {"resourceVersion": "10"}, "items": items})

    monkeypatch.setattr(server, "answer", answer)
    async with reflecting(server) as reflected:
        await asyncio.wait_for(reflected.store.complete.wait(), 30)
        assert reflected.names() == {"a", "b"}
        await until(lambda: server.watched_from)


@pytest.mark.parametrize(
    "page",
    [
        [],
        5,
        None,
        {"items": 5, "metadata": {"resourceVersion": "10"}},
        {"items": {"a": 1}, "metadata": {"resourceVersion": "10"}},
        {"items": []},
        {"items": [], "metadata": None},
        {"items": [], "metadata": {"resourceVersion": 5}},
    ],
    ids=lambda page: orjson.dumps(page).decode(),
)
async def test_a_malformed_listing_is_retried(
    server: ApiServer, page: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answers: list[Any] = [page]

    async def answer(request: web.Request) -> web.StreamResponse:
        if "watch" in request.query:
            return await server._watch(request)
        good = {"metadata": {"resourceVersion": "10"}, "items": [deployment("a", 3)]}
        return web.json_response(answers.pop() if answers else good)

    monkeypatch.setattr(server, "answer", answer)
    async with reflecting(server) as reflected:
        await until(lambda: reflected.names() == {"a"} or server.watched_from)
        if not reflected.names():  # the odd page was read as an empty listing
            server.tell("ADDED", deployment("a", 11))
        await until(lambda: reflected.names() == {"a"})
        await asyncio.wait_for(reflected.store.complete.wait(), 30)


async def test_an_invalid_resource_version_relists(server: ApiServer) -> None:
    async with reflecting(server) as reflected:
        await until(lambda: server.watched_from)
        server.answer_watches_with = 400
        server.objects = [deployment("a", 12)]
        server.end_watch()
        await until(lambda: reflected.names() == {"a"})

"""A fake API server in this process, over a real socket: objects in memory, faults by request.

The server implements GET, server-side apply (the manifest replaces the object), POST and DELETE. It
checks no schema. A fault is a response like that of a real server.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web
from kubernetes.aio.client import Configuration

from r1_operator.kube.client import Api, RetryPolicy

Json = dict[str, Any]
Fault = tuple[int, bytes]
HANG = (0, b"")
"""A fault without a response: the client's timeout ends the request."""


def status_error(status: int, message: str, reason: str = "") -> Fault:
    """An error response in the form of the API server."""
    body = {"kind": "Status", "status": "Failure", "message": message, "code": status}
    return status, orjson.dumps(body | ({"reason": reason} if reason else {}))


@dataclass
class FakeApiServer:
    """`objects` by path; a result of `fault(method, path)` replaces the response."""

    url: str = ""
    objects: dict[str, Json] = field(default_factory=dict)
    fault: Callable[[str, str], Fault | None] = lambda method, path: None
    requests: list[tuple[str, str]] = field(default_factory=list)
    events: list[Json] = field(default_factory=list)
    _versions: Any = field(default_factory=lambda: itertools.count(1))

    def sent(self, method: str, part: str) -> int:
        """Number of requests of this method with `part` in their path."""
        return sum(one == method and part in path for one, path in self.requests)

    def put(self, path: str, obj: Json) -> Json:
        """Store an object with a uid and the next resourceVersion."""
        known = self.objects.get(path, {}).get("metadata", {})
        metadata = {
            "namespace": path.split("/namespaces/")[1].split("/")[0],
            "uid": known.get("uid", f"uid-{path}"),
            "creationTimestamp": known.get("creationTimestamp", "2027-01-15T07:59:00Z"),
            "generation": 1,
            **obj["metadata"],
            "resourceVersion": str(next(self._versions)),
        }
        self.objects[path] = {**obj, "metadata": metadata}
        return self.objects[path]

    async def handle(self, request: web.Request) -> web.Response:
        """Handle one request."""
        method, path = request.method, request.path
        self.requests.append((method, path))
        fault = self.fault(method, path)
        if fault == HANG:
            await asyncio.sleep(3600)
        if fault is not None:
            return web.Response(status=fault[0], body=fault[1], content_type="application/json")
        body = orjson.loads(await request.read() or b"{}")
        if method == "POST" and path.endswith("/events"):
            self.events.append(body)
            return web.json_response(body)
        if method == "POST":
            return web.json_response(self.put(f"{path}/{body['metadata']['name']}", body))
        if method == "PATCH":
            return web.json_response(self._apply(path, body))
        if path not in self.objects:
            status, data = status_error(404, f"{path} not found", "NotFound")
            return web.Response(status=status, body=data, content_type="application/json")
        obj = self.objects.pop(path) if method == "DELETE" else self.objects[path]
        return web.json_response(obj)

    def _apply(self, path: str, body: Json) -> Json:
        if not path.endswith("/status"):
            known = self.objects.get(path, {})
            status = {"status": known["status"]} if "status" in known else {}
            return self.put(path, {**body, **status})
        path = path.removesuffix("/status")
        return self.put(path, {**self.objects[path], "status": body["status"]})


@asynccontextmanager
async def fake_api_server() -> AsyncIterator[FakeApiServer]:
    """A running server."""
    server = FakeApiServer()
    app = web.Application()
    app.router.add_route("*", "/{any:.*}", server.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()


def client_of(server: FakeApiServer, timeout_seconds: float = 5.0) -> Api:
    """A client with fast retries."""
    configuration = type.__call__(Configuration)
    configuration.host = server.url
    retry = RetryPolicy(attempts=3, base_seconds=0.01, cap_seconds=0.05)
    return Api(configuration, retry=retry, timeout_seconds=timeout_seconds)

"""A fake model pod with scripted responses, for tests and benchmarks of the gateway.

A script is a coroutine that gets a :class:`Conversation` for each request. The script is cancelled when
the peer closes the connection, and ``left`` counts these.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, cast

import httptools

Script = Callable[["Conversation"], Awaitable[None]]


@dataclass(slots=True)
class PodRequest:
    """A request that the pod received."""

    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        """The body, parsed as JSON."""
        return cast("dict[str, Any]", json.loads(self.body))


class Conversation:
    """One request, with methods for valid and invalid responses."""

    def __init__(self, request: PodRequest, transport: asyncio.Transport) -> None:
        self.request = request
        self.transport = transport

    def write(self, data: bytes) -> None:
        """Send raw bytes."""
        self.transport.write(data)

    def answer(self, body: bytes, status: str = "200 OK", *headers: str) -> None:
        """Send a full JSON response."""
        lines = [f"HTTP/1.1 {status}", "content-type: application/json", *headers]
        lines.append(f"content-length: {len(body)}\r\n\r\n")
        self.write("\r\n".join(lines).encode() + body)

    def start_stream(self, *headers: str) -> None:
        """Send the head of a chunked event stream."""
        lines = ["HTTP/1.1 200 OK", "content-type: text/event-stream", *headers]
        self.write(("\r\n".join(lines) + "\r\ntransfer-encoding: chunked\r\n\r\n").encode())

    def chunk(self, data: bytes) -> None:
        """Send one chunk."""
        self.write(b"%x\r\n%s\r\n" % (len(data), data))

    def end_stream(self) -> None:
        """Send the last chunk."""
        self.write(b"0\r\n\r\n")

    def die(self) -> None:
        """Close the connection at once, like a killed process."""
        self.transport.abort()


async def answer_briefly(conversation: Conversation) -> None:
    """The default script: a small completion, streamed on request."""
    if conversation.request.json.get("stream"):
        conversation.start_stream()
        for word in (b"one", b"two"):
            conversation.chunk(b'data: {"choices": [{"text": "%s"}]}\n\n' % word)
        conversation.chunk(b"data: [DONE]\n\n")
        conversation.end_stream()
    else:
        conversation.answer(b'{"object": "chat.completion", "usage": {"completion_tokens": 3}}')


@dataclass
class ScriptedPod:
    """A listening pod that counts the gateway's connections and requests."""

    script: Script = answer_briefly
    requests: list[PodRequest] = field(default_factory=list)
    connections: int = 0
    running: int = 0
    most_running: int = 0
    left: int = 0
    address: str = ""
    _server: asyncio.Server | None = None
    _open: set[_PodConnection] = field(default_factory=set)

    async def start(self, port: int = 0) -> ScriptedPod:
        """Listen on loopback."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _PodConnection(self), "127.0.0.1", port, reuse_address=True
        )
        host, bound_port = self._server.sockets[0].getsockname()[:2]
        self.address = f"{host}:{bound_port}"
        return self

    async def stop(self) -> None:
        """Stop listening and close all connections, like a killed process."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in list(self._open):
            connection.transport.abort()
        await asyncio.sleep(0)


class _PodConnection(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self, pod: ScriptedPod) -> None:
        self._pod = pod
        self._parser = httptools.HttpRequestParser(self)
        self._task: asyncio.Task[None] | None = None
        self._waiting: list[PodRequest] = []
        self._begin()

    def _begin(self) -> None:
        self._target = b""
        self._headers: dict[str, str] = {}
        self._body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._pod.connections += 1
        self._pod._open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._pod._open.discard(self)
        if self._task is not None and not self._task.done():
            self._pod.left += 1
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode().lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        request = PodRequest(self._target.decode(), self._headers, self._body)
        self._begin()
        self._pod.requests.append(request)
        self._task = asyncio.get_running_loop().create_task(self._run(request))

    async def _run(self, request: PodRequest) -> None:
        pod = self._pod
        pod.running += 1
        pod.most_running = max(pod.most_running, pod.running)
        try:
            await pod.script(Conversation(request, self.transport))
        finally:
            pod.running -= 1


async def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for a condition that other tasks bring about.

    Raises:
        TimeoutError: the condition is not true after `seconds`.
    """
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - any condition, no event to wait for
            await asyncio.sleep(0.002)

"""Timeouts of pods, clients and requests, and slow ones within their limits."""

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable

import aiohttp
import pytest

from r1_gateway import client_connection
from r1_gateway.server import GatewayServer
from scripted_pod import Conversation, ScriptedPod, until

OpenGateway = Callable[..., Awaitable[GatewayServer]]
NewPod = Callable[..., Awaitable[ScriptedPod]]
LIMITS = {"responseHeadSeconds": 0.3, "streamIdleSeconds": 0.3, "totalSeconds": 60}


async def ask(server: GatewayServer, *, stream: bool = False, **headers: str) -> tuple[int, bytes]:
    """A completion: status, and what was read until the end or the cut."""
    url = f"http://127.0.0.1:{server.port}/v1/chat/completions"
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        asyncio.timeout(20),
        aiohttp.ClientSession() as session,
        session.post(url, json={"model": "m", "stream": stream}, headers=sent) as answer,
    ):
        body = b""
        try:
            async for piece in answer.content.iter_any():
                body += piece
        except aiohttp.ClientPayloadError:
            body += b"<cut>"
        return answer.status, body


def in_flight(server: GatewayServer) -> int:
    return sum(server.gateway.routes["default/m"].admission.in_flight)


def failures(server: GatewayServer) -> list[int]:
    return [each.outcomes.failures for each in server.gateway.routes["default/m"].admission.pool]


async def never_answers(conversation: Conversation) -> None:
    await asyncio.sleep(3600)


async def stops_talking(conversation: Conversation) -> None:
    conversation.start_stream()
    conversation.chunk(b'data: {"text": "a"}\n\n')
    await asyncio.sleep(3600)


async def test_a_pod_that_never_answers_is_a_504_and_counted(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    pod = await new_pod(never_answers)
    server = await open_gateway(pod, timeouts=LIMITS)
    status, body = await ask(server)
    assert (status, json.loads(body)["error"]["code"]) == (504, "pod_timeout")
    assert in_flight(server) == 0
    assert failures(server) == [1]
    await until(lambda: pod.left == 1)


async def test_a_stream_that_falls_silent_ends_with_an_error_event(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    pod = await new_pod(stops_talking)
    server = await open_gateway(pod, timeouts=LIMITS)
    request = asyncio.create_task(ask(server, stream=True))
    await until(lambda: len(pod.requests) == 1)
    server.gateway.set_pods("default/m", {})  # the EndpointSlice drops the pod meanwhile
    status, body = await request
    assert status == 200
    assert b'"pod_timeout"' in body
    assert body.endswith(b"<cut>")
    assert b"[DONE]" not in body
    assert in_flight(server) == 0


async def test_a_slow_stream_that_goes_on_is_not_cut(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    async def slow(conversation: Conversation) -> None:
        conversation.start_stream()
        for _ in range(30):
            conversation.chunk(b"data: x\n\n")
            await asyncio.sleep(0.1)
        conversation.end_stream()

    server = await open_gateway(await new_pod(slow), timeouts={"streamIdleSeconds": 1.5})
    assert await ask(server, stream=True) == (200, b"data: x\n\n" * 30)


async def test_an_answer_without_end_is_cut_at_the_total_limit(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    async def endless(conversation: Conversation) -> None:
        conversation.start_stream()
        while True:
            conversation.chunk(b"data: x\n\n")
            await asyncio.sleep(0.02)

    server = await open_gateway(await new_pod(endless), timeouts={"totalSeconds": 0.5})
    status, body = await ask(server, stream=True)
    assert status == 200
    assert b'"pod_timeout"' in body
    assert in_flight(server) == 0


@pytest.mark.parametrize("script", [never_answers, stops_talking])
async def test_the_clients_deadline_holds_after_the_seat_was_given(
    open_gateway: OpenGateway,
    new_pod: NewPod,
    script: Callable[[Conversation], Awaitable[None]],
) -> None:
    pod = await new_pod(script)
    server = await open_gateway(pod)
    status, body = await ask(server, stream=True, x_request_deadline_ms="300")
    assert status == (504 if script is never_answers else 200)
    assert b'"deadline_exceeded"' in body
    assert in_flight(server) == 0
    assert failures(server) == [0]  # a short deadline is no fault of the pod
    await until(lambda: pod.left == 1)


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "1e5", "1_000", "", "x", "9" * 400])
async def test_a_deadline_that_is_no_number_of_milliseconds_is_a_400(
    open_gateway: OpenGateway, new_pod: NewPod, value: str
) -> None:
    server = await open_gateway(await new_pod())
    status, body = await ask(server, x_request_deadline_ms=value)
    assert status == 400
    assert b"x-request-deadline-ms" in body


async def test_connections_to_pods_detect_a_peer_that_lost_power(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    server = await open_gateway(await new_pod())
    await ask(server)
    (idle,) = server.gateway.connections._idle.values()
    transport = idle[0].transport
    assert transport is not None
    sock = transport.get_extra_info("socket")
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    assert 0 < sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) <= 120_000
    assert 0 < sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) <= 60


async def test_a_generation_is_not_retried_when_the_only_pod_dies(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    async def dies_late(conversation: Conversation) -> None:
        if len(pod.requests) == 1:
            conversation.answer(b"{}")
        else:
            await asyncio.sleep(0.5)
            conversation.die()

    pod = await new_pod(dies_late)
    server = await open_gateway(pod)
    assert (await ask(server))[0] == 200
    status, body = await ask(server)
    assert (status, json.loads(body)["error"]["code"]) == (502, "pod_died")
    assert len(pod.requests) == 2
    assert failures(server) == [1]


# -- clients ---------------------------------------------------------------------------------------


async def test_a_steady_slow_upload_is_served_and_a_stalled_one_gets_408(
    open_gateway: OpenGateway, new_pod: NewPod, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_connection, "BODY_SECONDS", 1.0)
    monkeypatch.setattr(client_connection, "STALL_SECONDS", 1.0)
    monkeypatch.setattr(client_connection, "BODY_BYTES_PER_SECOND", 100)
    server = await open_gateway(await new_pod())
    body = json.dumps({"model": "m", "prompt": "x" * 4000}).encode()
    head = b"POST /v1/completions HTTP/1.1\r\nhost: m\r\ncontent-length: %d\r\n\r\n" % len(body)

    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(head)
    for at in range(0, len(body), 100):  # 4 s, four times the limit of the stall
        writer.write(body[at : at + 100])
        await asyncio.sleep(0.1)
    async with asyncio.timeout(10):
        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
    writer.close()

    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(head + body[:100])
    async with asyncio.timeout(10):
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"x-request-id: " in answer
    assert server.gateway.invalid_requests[408, "request_timeout"] == 1
    writer.close()


async def test_an_upload_below_the_least_rate_gets_408(
    open_gateway: OpenGateway, new_pod: NewPod, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_connection, "BODY_SECONDS", 1.0)
    server = await open_gateway(await new_pod())
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"POST /v1/completions HTTP/1.1\r\nhost: m\r\ncontent-length: 99\r\n\r\n")

    async def drip() -> None:
        while True:
            writer.write(b" ")
            await asyncio.sleep(0.1)

    dripping = asyncio.create_task(drip())
    async with asyncio.timeout(10):
        assert (await reader.read(12)) == b"HTTP/1.1 408"
    dripping.cancel()
    writer.close()


@pytest.mark.parametrize("plain", [True, False])
async def test_an_answer_that_is_read_slowly_but_steadily_is_not_cut(
    open_gateway: OpenGateway, new_pod: NewPod, monkeypatch: pytest.MonkeyPatch, plain: bool
) -> None:
    size = 3 << 20

    async def large(conversation: Conversation) -> None:
        conversation.answer(b"x" * size)

    monkeypatch.setattr(client_connection, "STALL_SECONDS", 1.0)
    server = await open_gateway(await new_pod(large))
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 15)
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, ("127.0.0.1", server.port))
    extra = b"connection: close\r\n" if plain else b""
    await loop.sock_sendall(
        sock,
        b"POST /v1/completions HTTP/1.1\r\nhost: m\r\n%scontent-length: 13\r\n\r\n"
        b'{"model":"m"}' % extra,
    )
    read = 0
    async with asyncio.timeout(60):
        while read < size:
            data = await loop.sock_recv(sock, 1 << 15)
            assert data, f"cut after {read} bytes"
            read += len(data)
            await asyncio.sleep(0.05)
    sock.close()


async def test_an_answer_that_is_not_read_is_cut(
    open_gateway: OpenGateway, new_pod: NewPod, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def large(conversation: Conversation) -> None:
        conversation.answer(b"x" * (16 << 20))

    monkeypatch.setattr(client_connection, "STALL_SECONDS", 0.5)
    server = await open_gateway(await new_pod(large))
    _, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
    writer.write(
        b'POST /v1/completions HTTP/1.1\r\nhost: m\r\ncontent-length: 13\r\n\r\n{"model":"m"}'
    )
    await until(lambda: in_flight(server) == 1)
    await until(lambda: in_flight(server) == 0)
    writer.close()


async def test_an_idle_connection_outlives_the_balancers_own_timeout() -> None:
    assert client_connection.IDLE_SECONDS > 600

"""Streams through the gateway: the same bytes, at once, and cleanup after a disconnect."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from typing import cast

import pytest

from r1_gateway.client_connection import ClientConnection
from r1_gateway.server import GatewayServer
from scripted_pod import Conversation, ScriptedPod, until

OpenGateway = Callable[..., Awaitable[GatewayServer]]
NewPod = Callable[..., Awaitable[ScriptedPod]]
Wire = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def post(server: GatewayServer, body: object, *, version: str = "1.1") -> Wire:
    """Send a request on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    text = json.dumps(body).encode()
    head = f"POST /v1/chat/completions HTTP/{version}\r\nhost: m\r\ncontent-length: {len(text)}"
    writer.write(head.encode() + b"\r\n\r\n" + text)
    return reader, writer


async def read_head(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


def seats_in_use(server: GatewayServer) -> int:
    route = server.gateway.routes["default/m"]
    assert sum(route.admission.in_flight) == sum(e.in_flight for e in route.admission.pool)
    return sum(route.admission.in_flight)


STREAM = {"model": "m", "stream": True}
PLAIN = {"model": "m"}


async def test_chunks_arrive_one_by_one_and_byte_for_byte(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    pieces = ["é".encode(), b"data: a\n", b"\ndata: [DO", b"NE]\n\n", os.urandom(2000)]
    step = asyncio.Semaphore(0)

    async def careful(conversation: Conversation) -> None:
        conversation.start_stream("x-engine: yes")
        for piece in pieces:
            await step.acquire()
            conversation.chunk(piece)
        conversation.end_stream()

    server = await open_gateway(await new_pod(careful))
    reader, writer = await post(server, STREAM)
    head = await read_head(reader)
    assert head.startswith(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nx-engine: yes")
    for piece in pieces:  # each comes before the pod may send the next
        step.release()
        wire = b"%x\r\n%s\r\n" % (len(piece), piece)
        async with asyncio.timeout(5):
            assert await reader.readexactly(len(wire)) == wire
    assert await reader.readexactly(5) == b"0\r\n\r\n"
    await until(lambda: seats_in_use(server) == 0)
    writer.close()


async def test_an_http_1_0_client_gets_the_body_without_chunks(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    pod = await new_pod()
    server = await open_gateway(pod)
    for _ in range(3):
        reader, writer = await post(server, STREAM, version="1.0")
        answer = await reader.read()
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b"transfer-encoding" not in head
        assert b"connection: close" in head
        event = 'data: {"choices": [{"text": "%s"}]}\n\n'
        assert body.decode() == event % "one" + event % "two" + "data: [DONE]\n\n"
        writer.close()
    assert pod.connections == 1
    first_tokens = server.gateway.routes["default/m"].stats.time_to_first_token
    assert sum(first_tokens[1].counts) == 3


@pytest.mark.parametrize("body", [STREAM, PLAIN])
@pytest.mark.parametrize("abruptly", [False, True])
async def test_a_client_that_leaves_frees_its_seat_and_stops_the_pod(
    open_gateway: OpenGateway, new_pod: NewPod, body: object, abruptly: bool
) -> None:
    async def endless(conversation: Conversation) -> None:
        if conversation.request.json.get("stream"):
            conversation.start_stream()
            conversation.chunk(b"data: x\n\n")
        await asyncio.sleep(3600)

    pod = await new_pod(endless)
    server = await open_gateway(pod, seatsPerReplica=1)
    reader, writer = await post(server, body)
    if body is STREAM:
        await read_head(reader)
    await until(lambda: pod.running == 1)
    _, waiting = await post(server, body)
    await until(lambda: server.gateway.busy == 2)
    if abruptly:
        writer.transport.abort()
    else:
        writer.close()
    await until(lambda: pod.left == 1)
    await until(lambda: len(pod.requests) == 2)  # the next one got the seat
    assert seats_in_use(server) == 1
    waiting.close()
    await until(lambda: seats_in_use(server) == 0)
    assert server.gateway.routes["default/m"].stats.cancelled == [0, 2, 0]


async def test_a_request_cancelled_in_the_queue_is_never_sent(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    async def endless(conversation: Conversation) -> None:
        await asyncio.sleep(3600)

    pod = await new_pod(endless)
    server = await open_gateway(pod, seatsPerReplica=1)
    _, first = await post(server, PLAIN)
    await until(lambda: pod.running == 1)
    _, second = await post(server, PLAIN)
    await until(lambda: server.gateway.busy == 2)
    second.close()
    await until(lambda: server.gateway.busy == 1)
    first.close()
    await until(lambda: server.gateway.busy == 0)
    assert len(pod.requests) == 1


async def test_a_pod_that_dies_mid_stream_ends_it_with_an_error_event_without_done(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    async def dies(conversation: Conversation) -> None:
        conversation.start_stream()
        conversation.chunk(b"data: x\n\n")
        await asyncio.sleep(0.02)
        conversation.die()

    server = await open_gateway(await new_pod(dies))
    reader, writer = await post(server, STREAM)
    answer = await reader.read()
    writer.close()
    body = answer.partition(b"\r\n\r\n")[2]
    first, rest = body[:14], body[14:]
    assert first == b"9\r\ndata: x\n\n\r\n"
    size, _, event = rest.partition(b"\r\n")
    assert int(size, 16) == len(event) - 2
    assert json.loads(event.removeprefix(b"data: "))["error"]["code"] == "pod_died"
    assert b"[DONE]" not in answer
    assert not answer.endswith(b"0\r\n\r\n")
    assert seats_in_use(server) == 0
    assert server.gateway.routes["default/m"].stats.failed == [0, 1, 0]


@pytest.mark.parametrize(
    ("sent", "event_expected"),
    [
        (b"9\r\ndata: x\n", False),  # inside a chunk: nothing may be added
        (b"10\r\ndata: x\r\n", False),  # the same, after a line's end
        (b"1", False),  # in the size of a chunk
        (b"9\r\ndata: x\n\n\r", False),  # before the end of the chunk's line
        (b"9\r\ndata: x\n\n\r\n0\r\n", False),  # in the trailers
        (b"7\r\ndata: y\r\n", True),  # between chunks, inside an event
        (b"", True),  # after the head
    ],
)
async def test_an_error_event_is_sent_only_where_the_framing_allows_it(
    open_gateway: OpenGateway, new_pod: NewPod, sent: bytes, event_expected: bool
) -> None:
    async def dies(conversation: Conversation) -> None:
        conversation.start_stream()
        conversation.write(sent)
        await asyncio.sleep(0.02)
        conversation.die()

    server = await open_gateway(await new_pod(dies))
    reader, writer = await post(server, STREAM)
    body = (await reader.read()).partition(b"\r\n\r\n")[2]
    writer.close()
    assert body.startswith(sent)
    added = body[len(sent) :]
    assert bool(added) is event_expected
    if event_expected:
        size, _, event = added.partition(b"\r\n")
        assert int(size, 16) == len(event) - 2
        assert event.startswith(b"\n\ndata: {" if sent else b"data: {")


async def test_a_partial_response_without_streaming_becomes_a_502(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    async def dies(conversation: Conversation) -> None:
        conversation.write(b'HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"half": ')
        await asyncio.sleep(0.02)
        conversation.die()

    pods = [await new_pod(dies), await new_pod(dies)]
    server = await open_gateway(*pods)
    reader, writer = await post(server, PLAIN)
    head = await read_head(reader)
    assert head.startswith(b"HTTP/1.1 502 Bad Gateway")
    assert sum(len(pod.requests) for pod in pods) == 1  # its work may have been done: no retry
    writer.close()


async def test_a_slow_client_pauses_the_pod_and_its_disconnect_is_noticed(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    sent = 0

    async def flood(conversation: Conversation) -> None:
        nonlocal sent
        conversation.start_stream()
        while True:
            conversation.chunk(b"x" * 65536)
            sent += 65536
            await until(lambda: conversation.transport.get_write_buffer_size() == 0)

    pod = await new_pod(flood)
    server = await open_gateway(pod)
    _, writer = await post(server, STREAM)
    cast("asyncio.Transport", writer.transport).pause_reading()
    before = -1
    while sent != before:  # until nothing moves any more
        before = sent
        await asyncio.sleep(0.2)
    assert 65536 < sent < 64 << 20
    (client,) = server.gateway.clients
    assert isinstance(client, ClientConnection)
    assert client.transport is not None
    assert client.transport.get_write_buffer_size() < 1 << 20
    writer.transport.abort()
    await until(lambda: pod.left == 1 and seats_in_use(server) == 0)


async def test_a_slow_client_gets_everything(open_gateway: OpenGateway, new_pod: NewPod) -> None:
    block = os.urandom(1 << 16)

    async def big(conversation: Conversation) -> None:
        conversation.start_stream()
        for _ in range(150):
            conversation.chunk(block)
        conversation.end_stream()

    server = await open_gateway(await new_pod(big))
    reader, writer = await post(server, STREAM)
    await asyncio.sleep(0.2)
    await read_head(reader)
    wire = b"%x\r\n%s\r\n" % (len(block), block)
    for _ in range(150):
        assert await reader.readexactly(len(wire)) == wire
    assert await reader.readexactly(5) == b"0\r\n\r\n"
    writer.close()


async def test_a_large_response_without_streaming_is_relayed_before_its_end(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    body = os.urandom(3 << 20)

    async def chunked(conversation: Conversation) -> None:
        conversation.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        conversation.chunk(body)
        conversation.end_stream()

    async def sized(conversation: Conversation) -> None:
        conversation.answer(body)

    async def until_close(conversation: Conversation) -> None:
        conversation.write(b"HTTP/1.0 200 OK\r\n\r\n" + body)
        conversation.transport.close()

    for script in (chunked, sized, until_close):
        server = await open_gateway(await new_pod(script))
        reader, writer = await post(server, PLAIN, version="1.0")
        answer = await reader.read()
        assert answer.partition(b"\r\n\r\n")[2] == body
        writer.close()
        assert seats_in_use(server) == 0

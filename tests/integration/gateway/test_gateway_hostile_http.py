"""HTTP framing on real sockets: attacks, and rare but valid forms."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable

import h11
import pytest

from r1_gateway import client_connection
from r1_gateway.client_connection import ClientConnection
from r1_gateway.server import GatewayServer
from scripted_pod import Conversation, ScriptedPod, until

OpenGateway = Callable[..., Awaitable[GatewayServer]]
NewPod = Callable[..., Awaitable[ScriptedPod]]
BODY = b'{"model":"m"}'
START = b"POST /v1/chat/completions HTTP/1.1\r\nhost: m\r\n"
GOOD = START + b"content-length: 13\r\n\r\n" + BODY


async def exchange(server: GatewayServer, *pieces: bytes) -> bytes:
    """Write the pieces one by one; everything that comes until the gateway closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    for piece in pieces:
        writer.write(piece)
        await asyncio.sleep(0.005)
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    return answer


def statuses(stream: bytes) -> list[int]:
    """Statuses of all answers in a byte stream, read by another HTTP implementation."""
    connection = h11.Connection(h11.CLIENT)
    codes: list[int] = []
    connection.receive_data(stream)
    connection.receive_data(b"")
    connection.send(h11.Request(method="POST", target="/", headers=[("host", "m")]))
    connection.send(h11.EndOfMessage())
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Response):
            codes.append(event.status_code)
        elif isinstance(event, h11.EndOfMessage):
            if connection.their_state is not h11.DONE or not connection.trailing_data[0]:
                return codes
            connection.start_next_cycle()
            connection.send(h11.Request(method="POST", target="/", headers=[("host", "m")]))
            connection.send(h11.EndOfMessage())
        elif isinstance(event, h11.ConnectionClosed) or event in (h11.NEED_DATA, h11.PAUSED):
            return codes


SMUGGLING = {
    "length and chunks": START
    + b"content-length: 13\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": START
    + b"transfer-encoding: chunked\r\ncontent-length: 13\r\n\r\n0\r\n\r\n",
    "two lengths": START + b"content-length: 13\r\ncontent-length: 14\r\n\r\n" + BODY,
    "same length twice": START + b"content-length: 13\r\ncontent-length: 13\r\n\r\n" + BODY,
    "list of lengths": START + b"content-length: 13, 13\r\n\r\n" + BODY,
    "signed length": START + b"content-length: +13\r\n\r\n" + BODY,
    "hex length": START + b"content-length: 0xd\r\n\r\n" + BODY,
    "space before colon": START + b"content-length : 13\r\n\r\n" + BODY,
    "folded header": START + b"x: a\r\n b\r\ncontent-length: 13\r\n\r\n" + BODY,
    "bare line feed": START + b"x: a\ncontent-length: 13\r\n\r\n" + BODY,
    "bare carriage return": START + b"x: a\rcontent-length: 13\r\n\r\n" + BODY,
    "zero byte": START + b"x: a\x00b\r\ncontent-length: 13\r\n\r\n" + BODY,
    "other coding": START + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "unknown coding": START + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    "coding after chunked": START + b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "coding twice": START
    + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "tab in coding": START + b"transfer-encoding:\tchunked\r\ncontent-length: 13\r\n\r\n0\r\n\r\n",
    "bad chunk size": START + b"transfer-encoding: chunked\r\n\r\n-1\r\n",
    "long chunk": START + b"transfer-encoding: chunked\r\n\r\n3\r\nabcdef\r\n0\r\n\r\n",
    "chunks in 1.0": b"POST /v1/chat/completions HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "no host": b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 13\r\n\r\n" + BODY,
    "two hosts": START + b"host: n\r\ncontent-length: 13\r\n\r\n" + BODY,
    "version 2.0": b"POST /v1/chat/completions HTTP/2.0\r\nhost: m\r\ncontent-length: 13\r\n\r\n"
    + BODY,
    "not http": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}


@pytest.mark.parametrize("case", SMUGGLING)
async def test_ambiguous_framing_is_rejected_and_closes_the_connection(
    open_gateway: OpenGateway, new_pod: NewPod, case: str
) -> None:
    pod = await new_pod()
    server = await open_gateway(pod)
    answer = await exchange(server, SMUGGLING[case], GOOD)
    (status,) = statuses(answer)
    assert 400 <= status < 600
    assert b"connection: close" in answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["message"]
    assert pod.requests == []


async def test_bytes_after_a_request_are_not_part_of_it(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    pod = await new_pod()
    server = await open_gateway(pod)
    hidden = b"GET /admin HTTP/1.1\r\nhost: m\r\n\r\n"
    trailers = (
        START
        + b"transfer-encoding: chunked\r\n\r\nd\r\n"
        + BODY
        + b"\r\n0\r\nx-r1-priority: Q1\r\n\r\n"
    )
    last = GOOD.replace(b"host: m", b"host: m\r\nconnection: close, x-secret\r\nx-secret: 1")
    answer = await exchange(server, trailers, hidden, last)
    assert statuses(answer) == [200, 404, 200]
    assert b"x-r1-class: Q1" not in answer
    assert [request.target for request in pod.requests] == ["/v1/chat/completions"] * 2
    assert all(request.body == BODY for request in pod.requests)
    assert all(request.headers["content-length"] == "13" for request in pod.requests)
    assert "x-secret" not in pod.requests[1].headers


async def test_a_request_may_come_byte_by_byte(open_gateway: OpenGateway, new_pod: NewPod) -> None:
    pod = await new_pod()
    server = await open_gateway(pod)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    for at in range(len(GOOD)):
        writer.write(GOOD[at : at + 1])
        await asyncio.sleep(0)
    assert (await reader.readline()) == b"HTTP/1.1 200 OK\r\n"
    writer.close()


async def test_large_heads_and_bodies_are_refused(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    pod = await new_pod()
    server = await open_gateway(pod, options={"max_body_bytes": 1000})
    huge_head = START + b"x: " + b"y" * 70_000
    assert statuses(await exchange(server, huge_head)) == [431]
    many = START + b"".join(b"x-%d: y\r\n" % n for n in range(9000))
    assert statuses(await exchange(server, many)) == [431]
    declared = START + b"content-length: 1001\r\n\r\n"
    assert statuses(await exchange(server, declared)) == [413]
    assert statuses(await exchange(server, declared, b"z" * 1001)) == [413]
    chunked = START + b"transfer-encoding: chunked\r\n\r\n"
    assert statuses(await exchange(server, chunked, b"3e9\r\n" + b"z" * 1001)) == [413]
    assert pod.requests == []


async def test_a_100_continue_is_sent_before_the_body(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    pod = await new_pod()
    server = await open_gateway(pod, options={"max_body_bytes": 1000})
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    head = START + b"expect: 100-continue\r\ncontent-length: %d\r\n\r\n"
    writer.write(head % 13)
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(BODY)
    assert (await reader.readline()) == b"HTTP/1.1 200 OK\r\n"
    assert "expect" not in pod.requests[0].headers
    writer.close()
    assert statuses(await exchange(server, head % 1001)) == [413]  # without asking for the body
    other = START + b"expect: tea\r\ncontent-length: 13\r\n\r\n"
    assert statuses(await exchange(server, other)) == [417]


async def test_pipelined_requests_are_answered_in_order_one_at_a_time(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    async def slow(conversation: Conversation) -> None:
        await asyncio.sleep(0.01)
        conversation.answer(conversation.request.headers["x-n"].encode())

    pod = await new_pod(slow)
    server = await open_gateway(pod)
    requests = [GOOD.replace(b"host: m", b"host: m\r\nx-n: %d" % n) for n in range(5)]
    requests[-1] = requests[-1].replace(b"host: m", b"host: m\r\nconnection: close")
    answer = await exchange(server, b"".join(requests))
    assert statuses(answer) == [200] * 5
    bodies = [part[:1] for part in answer.split(b"\r\n\r\n")[1:]]
    assert bodies == [b"0", b"1", b"2", b"3", b"4"]
    assert pod.most_running == 1


async def test_pipelining_is_bounded_and_accepted_requests_are_answered(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    async def slow(conversation: Conversation) -> None:
        await asyncio.sleep(0.001)
        conversation.answer(b"{}")

    pod = await new_pod(slow)
    server = await open_gateway(pod)
    answer = await exchange(server, GOOD * 100)
    assert statuses(answer) == [200] * (client_connection.PIPELINED_REQUESTS + 1)


async def test_a_bad_request_behind_a_good_one_does_not_hurt_it(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    async def slow(conversation: Conversation) -> None:
        await asyncio.sleep(0.02)
        conversation.answer(b"{}")

    server = await open_gateway(await new_pod(slow))
    assert statuses(await exchange(server, GOOD + b"NONSENSE\r\n\r\n")) == [200, 400]


async def test_connections_live_on_after_an_error_answer(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    server = await open_gateway(await new_pod())
    wrong = GOOD.replace(b"/v1/chat/completions", b"/v1/nothing/there/is")
    last = GOOD.replace(b"host: m", b"host: m\r\nconnection: close")
    assert statuses(await exchange(server, wrong, GOOD, wrong, last)) == [404, 200, 404, 200]


async def test_head_options_and_upgrade_keep_the_connection_in_step(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    server = await open_gateway(await new_pod())
    head = b"HEAD /v1/models HTTP/1.1\r\nhost: m\r\n\r\n"
    assert (await exchange(server, head)).startswith(b"HTTP/1.1 405 ")
    options = b"OPTIONS /v1/models HTTP/1.1\r\nhost: m\r\nconnection: close\r\n\r\n"
    assert statuses(await exchange(server, options)) == [405]
    upgrade = START + (
        b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAM\r\n"
        b"content-length: 13\r\n\r\n" + BODY
    )
    last = GOOD.replace(b"host: m", b"host: m\r\nconnection: close")
    assert statuses(await exchange(server, upgrade + last)) == [200, 200]
    assert statuses(await exchange(server, upgrade[:-5], upgrade[-5:] + last)) == [200, 200]
    connect = b"CONNECT m:80 HTTP/1.1\r\nhost: m\r\n\r\n"
    assert statuses(await exchange(server, connect)) == [405]


async def test_slow_and_idle_connections_are_closed(
    open_gateway: OpenGateway, new_pod: NewPod, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_connection, "HEAD_SECONDS", 0.05)
    monkeypatch.setattr(client_connection, "BODY_SECONDS", 0.05)
    monkeypatch.setattr(client_connection, "IDLE_SECONDS", 0.05)
    server = await open_gateway(await new_pod())
    for pieces in ([b""], [START], [START + b"content-length: 13\r\n\r\n{"], [GOOD]):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.writelines(pieces)
        async with asyncio.timeout(5):
            try:
                answer = await reader.read()
            except ConnectionResetError:
                answer = b""
        assert answer.startswith(b"HTTP/1.1 200") is (pieces == [GOOD])
        writer.close()
    assert server.gateway.clients == set()


CHUNKED = START + b"transfer-encoding: chunked\r\n\r\n"


async def test_trailers_and_chunk_extensions_without_end_are_refused(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    server = await open_gateway(await new_pod())
    for start in (b"0\r\nx: ", b"0\r\n", b"1;x="):
        flood = [b"a" * 16384] * 5
        answer = await exchange(server, CHUNKED + b"d\r\n" + BODY + b"\r\n" + start, *flood)
        assert statuses(answer) == [431]


async def test_a_body_in_small_chunks_takes_the_memory_of_its_bytes(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    server = await open_gateway(await new_pod())
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(CHUNKED + b"2\r\nab\r\n" * 60_000)
    await until(lambda: server.gateway.budget.used >= 120_000)
    (client,) = server.gateway.clients
    assert isinstance(client, ClientConnection)
    assert sum(map(sys.getsizeof, client._body)) < 150_000
    writer.close()


async def test_a_body_in_a_great_many_chunks_is_refused(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    server = await open_gateway(await new_pod())
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(CHUNKED + b"2\r\nab\r\n" * 70_000)
    async with asyncio.timeout(20):
        assert statuses(await reader.read()) == [413]
    writer.close()
    assert server.gateway.budget.used == 0


async def test_many_requests_that_offer_another_protocol_are_each_answered(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    server = await open_gateway(await new_pod())
    offer = b"GET /v1/models HTTP/1.1\r\nhost: m\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n"
    last = b"GET /v1/models HTTP/1.1\r\nhost: m\r\nconnection: close\r\n\r\n"
    answer = await exchange(server, offer * 2000 + last)
    assert answer.count(b"HTTP/1.1 200 OK") == 2001

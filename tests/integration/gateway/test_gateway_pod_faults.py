"""Pods that refuse, die or drain: retries, responses and ejections."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from r1_gateway.server import GatewayServer
from scripted_pod import Conversation, Script, ScriptedPod, answer_briefly, until

OpenGateway = Callable[..., Awaitable[GatewayServer]]
NewPod = Callable[..., Awaitable[ScriptedPod]]


async def ask(server: GatewayServer, **fields: object) -> tuple[int, str]:
    """A completion; status and error code ('' when there is none)."""
    url = f"http://127.0.0.1:{server.port}/v1/chat/completions"
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, json={"model": "m", **fields}) as answer,
    ):
        body = json.loads(await answer.read())
        return answer.status, body.get("error", {}).get("code", "")


def free_everywhere(server: GatewayServer) -> bool:
    route = server.gateway.routes["default/m"]
    return sum(route.admission.in_flight) == 0 == sum(e.in_flight for e in route.admission.pool)


async def dies(conversation: Conversation) -> None:
    conversation.die()


async def test_a_pod_that_dies_before_its_head_is_replaced_once(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    bad, good = await new_pod(dies), await new_pod()
    server = await open_gateway(bad, good)
    answers = [await ask(server) for _ in range(4)]
    assert answers == [(200, "")] * 4
    assert len(bad.requests) >= 1
    assert free_everywhere(server)


async def test_a_request_that_fails_on_two_pods_gets_502(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    pods = [await new_pod(dies) for _ in range(5)]
    server = await open_gateway(*pods)
    assert await ask(server) == (502, "pod_died")
    assert sum(len(pod.requests) for pod in pods) == 2
    assert free_everywhere(server)


async def test_a_request_is_not_retried_on_the_only_pod(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    pod = await new_pod(dies)
    server = await open_gateway(pod)
    assert await ask(server) == (502, "pod_died")
    assert len(pod.requests) == 1


async def test_a_killed_pod_costs_no_request_while_another_lives(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    dead, alive = await new_pod(), await new_pod()
    server = await open_gateway(dead, alive)
    assert await ask(server) == (200, "")
    await dead.stop()
    answers = await asyncio.gather(*(ask(server) for _ in range(20)))
    assert answers == [(200, "")] * 20
    assert free_everywhere(server)
    tries = server.gateway.routes["default/m"].stats.retries["ConnectFailed"]
    assert 1 <= tries <= 8  # the breaker spares the rest the detour


async def test_requests_wait_for_the_only_pod_after_it_was_killed(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    pod = await new_pod()
    server = await open_gateway(pod)
    port = int(pod.address.rpartition(":")[2])
    await pod.stop()
    request = asyncio.create_task(ask(server))
    await asyncio.sleep(0.4)
    assert not request.done()
    again = await new_pod(answer_briefly, port)
    async with asyncio.timeout(20):
        assert await request == (200, "")
    assert len(again.requests) == 1


async def test_a_pod_that_never_comes_back_is_a_503_in_time(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    pod = await new_pod()
    server = await open_gateway(pod, classes={"Q2": {"maxQueueSeconds": 0.5}})
    await pod.stop()
    async with asyncio.timeout(20):
        assert await ask(server) == (503, "queue_timeout")
    assert free_everywhere(server)


async def test_a_request_to_a_draining_pod_goes_to_another_pod(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    async def drains(conversation: Conversation) -> None:
        conversation.answer(b"{}", "503 Service Unavailable", "retry-after: 30")

    draining, good = await new_pod(drains), await new_pod()
    server = await open_gateway(draining, good)
    answers = [await ask(server) for _ in range(10)]
    assert answers == [(200, "")] * 10
    assert len(draining.requests) == 1  # no further request for the time of Retry-After


@pytest.mark.parametrize("status", ["503 Service Unavailable", "429 Too Many Requests"])
async def test_a_rejection_by_two_pods_is_relayed(
    open_gateway: OpenGateway, new_pod: NewPod, status: str
) -> None:
    async def refuses(conversation: Conversation) -> None:
        conversation.answer(b'{"error": {"code": "engine"}}', status)

    pods = [await new_pod(refuses) for _ in range(3)]
    server = await open_gateway(*pods)
    assert await ask(server) == (int(status[:3]), "engine")
    assert sum(len(pod.requests) for pod in pods) == 2
    assert free_everywhere(server)


@pytest.mark.parametrize("status", ["503 Service Unavailable", "429 Too Many Requests"])
async def test_a_request_rejected_by_a_pod_is_served_by_another_with_a_free_seat(
    open_gateway: OpenGateway, new_pod: NewPod, status: str
) -> None:
    async def refuses(conversation: Conversation) -> None:
        conversation.answer(b'{"error": {"code": "engine"}}', status)

    bad, good = await new_pod(refuses), await new_pod()
    server = await open_gateway(bad, good)
    assert [await ask(server) for _ in range(8)] == [(200, "")] * 8
    assert 1 <= len(bad.requests) <= 4  # it was ejected then
    assert free_everywhere(server)


async def test_a_rejection_is_relayed_when_no_other_pod_has_a_free_seat(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    release = asyncio.Event()

    async def slow(conversation: Conversation) -> None:
        await release.wait()
        conversation.answer(b"{}")

    async def refuses(conversation: Conversation) -> None:
        conversation.answer(b'{"error": {"code": "engine"}}', "429 Too Many Requests")

    busy, bad = await new_pod(slow), await new_pod(refuses)
    server = await open_gateway(busy, bad, seatsPerReplica=1)
    answers = [asyncio.create_task(ask(server)) for _ in range(2)]
    await until(lambda: len(busy.requests) == 1)
    await until(lambda: any(answer.done() for answer in answers))
    assert [await a for a in answers if a.done()] == [(429, "engine")]
    release.set()
    assert (200, "") in [await answer for answer in answers]


async def fails(conversation: Conversation) -> None:
    conversation.answer(b'{"error": {"code": "broken"}}', "500 Internal Server Error")


async def streams_an_error(conversation: Conversation) -> None:
    conversation.start_stream()
    conversation.chunk(b'data: {"error": {"message": "the engine is dead", "code": 500}}\n\n')
    conversation.chunk(b"data: [DONE]\n\n")
    conversation.end_stream()


async def dies_in_its_stream(conversation: Conversation) -> None:
    conversation.start_stream()
    await asyncio.sleep(0.002)
    conversation.die()


async def serve_a_little_later(conversation: Conversation) -> None:
    await asyncio.sleep(0.03)
    await answer_briefly(conversation)


@pytest.mark.parametrize("bad", [fails, streams_an_error, dies_in_its_stream])
async def test_a_pod_that_fails_fast_gets_a_small_part_of_the_load(
    open_gateway: OpenGateway, new_pod: NewPod, bad: Script
) -> None:
    pods = [await new_pod(bad), await new_pod(serve_a_little_later)]
    pods.append(await new_pod(serve_a_little_later))
    server = await open_gateway(*pods)

    async def client() -> int:
        url = f"http://127.0.0.1:{server.port}/v1/completions"
        body = {"model": "m", "stream": True}
        failed = 0
        async with aiohttp.ClientSession() as session:
            for _ in range(25):
                try:
                    async with session.post(url, json=body) as answer:
                        text = await answer.read()
                except aiohttp.ClientError:
                    text = b"error"
                failed += b"error" in text
        return failed

    failed = sum(await asyncio.gather(*(client() for _ in range(12))))
    assert 1 <= failed <= 15  # of 300
    assert len(pods[0].requests) == failed
    route = server.gateway.routes["default/m"]
    assert route.stats.ejections >= 1
    assert free_everywhere(server)


async def test_a_request_that_every_pod_fails_ejects_at_most_half_of_them(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    async def fails_on_poison(conversation: Conversation) -> None:
        if b"poison" in conversation.request.body:
            await fails(conversation)
        else:
            conversation.answer(b"{}")

    pods = [await new_pod(fails_on_poison) for _ in range(4)]
    server = await open_gateway(*pods)
    pool = server.gateway.routes["default/m"].admission.pool
    for number in range(60):
        expected = (500, "broken") if number % 3 else (200, "")
        assert await ask(server, prompt="poison" if number % 3 else "") == expected
        assert pool.ejected <= 2
    assert pool.available >= 2


async def test_an_ejected_pod_returns_after_it_recovers(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    broken = True

    async def sometimes(conversation: Conversation) -> None:
        await (fails(conversation) if broken else answer_briefly(conversation))

    bad, good = await new_pod(sometimes), await new_pod()
    server = await open_gateway(bad, good)
    pool = server.gateway.routes["default/m"].admission.pool
    for _ in range(12):
        await ask(server)
    assert pool.ejected == 1
    _, signals = await admin(server)
    assert (signals["readyEndpoints"], signals["seats"]) == (1, 4)
    broken = False
    before = len(bad.requests)
    async with asyncio.timeout(30):
        while pool.ejected:
            assert await ask(server) == (200, "")
            await asyncio.sleep(0.05)
    assert len(bad.requests) > before
    _, signals = await admin(server)
    assert (signals["readyEndpoints"], signals["seats"]) == (2, 8)


async def admin(server: GatewayServer) -> tuple[str, dict[str, Any]]:
    """The metrics, and the signals of the route."""
    base = f"http://127.0.0.1:{server.admin_port}"
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{base}/metrics") as answer:
            metrics = await answer.text()
        async with session.get(f"{base}/signals") as answer:
            signals = await answer.json()
    return metrics, signals["routes"]["default/m"]


async def test_a_pod_that_came_back_gets_its_full_load_before_the_first_answer(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    release = asyncio.Event()

    async def long(conversation: Conversation) -> None:
        await release.wait()
        conversation.answer(b"{}")

    pod = await new_pod(long)
    server = await open_gateway(pod, seatsPerReplica=4)
    port = int(pod.address.rpartition(":")[2])
    await pod.stop()
    answers = [asyncio.create_task(ask(server)) for _ in range(4)]
    await until(lambda: server.gateway.routes["default/m"].stats.retries["ConnectFailed"] > 0)
    again = await new_pod(long, port)
    await until(lambda: again.running == 4)
    release.set()
    assert [await answer for answer in answers] == [(200, "")] * 4


async def test_a_wide_request_takes_its_seats_on_the_pod(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    release = asyncio.Event()

    async def slow(conversation: Conversation) -> None:
        await release.wait()
        conversation.answer(b"{}")

    pod = await new_pod(slow)
    server = await open_gateway(pod, seatsPerReplica=4)
    answers = [asyncio.create_task(ask(server, n=3))]
    await until(lambda: pod.running == 1)
    answers += [asyncio.create_task(ask(server)) for _ in range(2)]
    answers += [asyncio.create_task(ask(server, prompt=["x"] * 64))]
    await until(lambda: server.gateway.busy == 4)
    await asyncio.sleep(0.05)
    assert pod.running == 2  # one of three seats and one of one
    _, signals = await admin(server)
    assert signals["inFlightByEndpoint"] == {pod.address: 4}
    assert sum(signals["inFlight"].values()) == 2
    release.set()
    assert [await answer for answer in answers] == [(200, "")] * 4
    assert pod.most_running == 2
    assert free_everywhere(server)


async def test_an_idle_connection_that_the_pod_closed_is_replaced_without_an_error(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    requests = 0

    async def hangs_up_on_the_second(conversation: Conversation) -> None:
        nonlocal requests
        requests += 1
        if requests == 2:  # as a server does whose idle timeout ran out at that very moment
            conversation.die()
        else:
            conversation.answer(b"{}")

    pod = await new_pod(hangs_up_on_the_second)
    server = await open_gateway(pod)
    assert await ask(server) == (200, "")
    assert await ask(server) == (200, "")
    assert pod.connections == 2
    assert server.gateway.routes["default/m"].stats.retries == {"StaleConnection": 1}


async def test_answers_that_are_not_http_are_a_502(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    for junk in (
        b"HELLO\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 70_000,
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    ):

        async def speak(conversation: Conversation, junk: bytes = junk) -> None:
            conversation.write(junk)

        server = await open_gateway(await new_pod(speak))
        assert await ask(server) == (502, "pod_died"), junk[:60]
        assert free_everywhere(server)


async def test_a_100_continue_of_the_pod_is_not_the_answer(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    async def polite(conversation: Conversation) -> None:
        conversation.write(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nx: y\r\n\r\n")
        conversation.answer(b"{}")

    server = await open_gateway(await new_pod(polite))
    assert await ask(server) == (200, "")


async def test_removed_pods_get_no_new_request_and_finish_theirs(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    release = asyncio.Event()

    async def slow(conversation: Conversation) -> None:
        await release.wait()
        conversation.answer(b"{}")

    old, new = await new_pod(slow), await new_pod()
    server = await open_gateway(old)
    first = asyncio.create_task(ask(server))
    await until(lambda: len(old.requests) > 0)
    server.gateway.set_pods("default/m", {old.address: False, new.address: True})
    assert [await ask(server) for _ in range(5)] == [(200, "")] * 5
    server.gateway.set_pods("default/m", {new.address: True})
    assert [await ask(server) for _ in range(5)] == [(200, "")] * 5
    assert len(old.requests) == 1
    release.set()
    assert await first == (200, "")
    assert [endpoint.address for endpoint in server.gateway.routes["default/m"].admission.pool] == [
        new.address
    ]


async def test_deleting_a_resource_rejects_its_queued_requests(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    server = await open_gateway(mayWake=True)
    request = asyncio.create_task(ask(server))
    await until(lambda: server.gateway.busy > 0)
    server.gateway.set_routes([])
    assert await request == (503, "route_removed")
    assert await ask(server) == (404, "model_not_found")

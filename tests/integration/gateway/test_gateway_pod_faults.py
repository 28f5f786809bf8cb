"""Pods that refuse, die or drain: who is asked again, who is told, and who never notices."""

import asyncio
import json
from collections.abc import Awaitable, Callable

import aiohttp

from r1_gateway.scripted_pod import Conversation, ScriptedPod, answer_briefly, until
from r1_gateway.server import GatewayServer

OpenGateway = Callable[..., Awaitable[GatewayServer]]
NewPod = Callable[..., Awaitable[ScriptedPod]]


async def ask(gateway: GatewayServer, **fields: object) -> tuple[int, str]:
    """A completion; status and error code ('' when there is none)."""
    url = f"http://127.0.0.1:{gateway.port}/v1/chat/completions"
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, json={"model": "m", **fields}) as answer,
    ):
        body = json.loads(await answer.read())
        return answer.status, body.get("error", {}).get("code", "")


def free_everywhere(gateway: GatewayServer) -> bool:
    route = gateway.door.routes["default/m"]
    return sum(route.admission.in_flight) == 0 == sum(e.in_flight for e in route.admission.pool)


async def dies(conversation: Conversation) -> None:
    conversation.die()


async def test_a_pod_that_dies_before_its_head_is_replaced_once(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    bad, good = await new_pod(dies), await new_pod()
    gateway = await open_gateway(bad, good)
    answers = [await ask(gateway) for _ in range(4)]
    assert answers == [(200, "")] * 4
    assert len(bad.requests) >= 1
    assert free_everywhere(gateway)


async def test_two_dead_pods_are_a_502_and_not_ten_tries(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    pods = [await new_pod(dies) for _ in range(5)]
    gateway = await open_gateway(*pods)
    assert await ask(gateway) == (502, "pod_died")
    assert sum(len(pod.requests) for pod in pods) == 2
    assert free_everywhere(gateway)


async def test_the_only_pod_is_not_asked_twice(open_gateway: OpenGateway, new_pod: NewPod) -> None:
    pod = await new_pod(dies)
    gateway = await open_gateway(pod)
    assert await ask(gateway) == (502, "pod_died")
    assert len(pod.requests) == 1


async def test_a_killed_pod_costs_no_request_while_another_lives(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    dead, alive = await new_pod(), await new_pod()
    gateway = await open_gateway(dead, alive)
    assert await ask(gateway) == (200, "")
    await dead.stop()
    answers = await asyncio.gather(*(ask(gateway) for _ in range(20)))
    assert answers == [(200, "")] * 20
    assert free_everywhere(gateway)
    tries = gateway.door.routes["default/m"].tally.retries["ConnectFailed"]
    assert 1 <= tries <= 8  # the breaker spares the rest the detour


async def test_a_killed_pod_is_waited_for_when_it_is_the_only_one(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    pod = await new_pod()
    gateway = await open_gateway(pod)
    port = int(pod.address.rpartition(":")[2])
    await pod.stop()
    asked = asyncio.create_task(ask(gateway))
    await asyncio.sleep(0.4)
    assert not asked.done()
    again = await new_pod(answer_briefly, port)
    async with asyncio.timeout(20):
        assert await asked == (200, "")
    assert len(again.requests) == 1


async def test_a_pod_that_never_comes_back_is_a_503_in_time(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    pod = await new_pod()
    gateway = await open_gateway(pod, classes={"Q2": {"maxQueueSeconds": 0.5}})
    await pod.stop()
    async with asyncio.timeout(20):
        assert await ask(gateway) == (503, "queue_timeout")
    assert free_everywhere(gateway)


async def test_a_draining_pod_sends_us_elsewhere(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    async def drains(conversation: Conversation) -> None:
        conversation.answer(b"{}", "503 Service Unavailable", "retry-after: 30")

    draining, good = await new_pod(drains), await new_pod()
    gateway = await open_gateway(draining, good)
    answers = [await ask(gateway) for _ in range(10)]
    assert answers == [(200, "")] * 10
    assert len(draining.requests) == 1  # and it is left alone for the time it asked for


async def test_a_503_without_retry_after_is_the_engines_own_answer(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    async def refuses(conversation: Conversation) -> None:
        conversation.answer(b'{"error": {"code": "engine"}}', "503 Service Unavailable")

    pods = [await new_pod(refuses), await new_pod(refuses)]
    gateway = await open_gateway(*pods)
    assert await ask(gateway) == (503, "engine")
    assert sum(len(pod.requests) for pod in pods) == 1


async def test_a_connection_that_the_pod_closed_meanwhile_is_replaced_unseen(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    asked = 0

    async def hangs_up_on_the_second(conversation: Conversation) -> None:
        nonlocal asked
        asked += 1
        if asked == 2:  # as a server does whose idle timeout ran out at that very moment
            conversation.die()
        else:
            conversation.answer(b"{}")

    pod = await new_pod(hangs_up_on_the_second)
    gateway = await open_gateway(pod)
    assert await ask(gateway) == (200, "")
    assert await ask(gateway) == (200, "")
    assert pod.connections == 2
    assert gateway.door.routes["default/m"].tally.retries == {"StaleConnection": 1}


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

        gateway = await open_gateway(await new_pod(speak))
        assert await ask(gateway) == (502, "pod_died"), junk[:60]
        assert free_everywhere(gateway)


async def test_a_100_continue_of_the_pod_is_not_the_answer(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    async def polite(conversation: Conversation) -> None:
        conversation.write(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nx: y\r\n\r\n")
        conversation.answer(b"{}")

    gateway = await open_gateway(await new_pod(polite))
    assert await ask(gateway) == (200, "")


async def test_pods_that_leave_get_nothing_new_and_finish_their_work(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    release = asyncio.Event()

    async def slow(conversation: Conversation) -> None:
        await release.wait()
        conversation.answer(b"{}")

    old, new = await new_pod(slow), await new_pod()
    gateway = await open_gateway(old)
    first = asyncio.create_task(ask(gateway))
    await until(lambda: len(old.requests) > 0)
    gateway.door.set_pods("default/m", {old.address: False, new.address: True})
    assert [await ask(gateway) for _ in range(5)] == [(200, "")] * 5
    gateway.door.set_pods("default/m", {new.address: True})
    assert [await ask(gateway) for _ in range(5)] == [(200, "")] * 5
    assert len(old.requests) == 1
    release.set()
    assert await first == (200, "")
    assert [endpoint.address for endpoint in gateway.door.routes["default/m"].admission.pool] == [
        new.address
    ]


async def test_a_deleted_resource_lets_its_queue_go(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    gateway = await open_gateway(mayWake=True)
    asked = asyncio.create_task(ask(gateway))
    await until(lambda: gateway.door.busy > 0)
    gateway.door.set_routes([])
    assert await asked == (503, "route_removed")
    assert await ask(gateway) == (404, "model_not_found")

"""Clients that obey Retry-After, against the real process."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp

from gateway_process import gateway_process
from scripted_pod import Conversation, ScriptedPod

NewPod = Callable[..., Awaitable[ScriptedPod]]


async def test_clients_that_obey_retry_after_are_admitted_on_return(
    tmp_path: Path, new_pod: NewPod
) -> None:
    """20 seats of 0.5 s, a queue of 64, 150 clients: 66 of them are always outside."""

    async def half_a_second(conversation: Conversation) -> None:
        await asyncio.sleep(0.5)
        conversation.answer(b"{}")

    returns, admitted, announced = 0, 0, list[int]()

    async def client(port: int, end: float) -> None:
        nonlocal returns, admitted
        refused = False
        await asyncio.sleep(random.random() * 0.2)
        async with aiohttp.ClientSession() as session:
            while time.monotonic() < end:
                url = f"http://127.0.0.1:{port}/v1/completions"
                async with session.post(url, json={"model": "m"}) as answer:
                    await answer.read()
                returns += refused
                admitted += refused and answer.status == 200
                refused = answer.status == 429
                if refused:
                    announced.append(int(answer.headers["retry-after"]))
                    await asyncio.sleep(announced[-1])

    pod = await new_pod(half_a_second)
    bounds = {"Q2": {"maxQueueLength": 64}}
    async with gateway_process(tmp_path, pod.address, seatsPerReplica=20, classes=bounds) as (
        port,
        _,
    ):
        end = time.monotonic() + 12.0
        await asyncio.gather(*(client(port, end) for _ in range(150)))
    assert pod.most_running <= 20
    assert returns > 100
    assert admitted >= 0.9 * returns
    later = announced[100:]
    assert sum(later) / len(later) < 5.0  # 66 clients, 40 a second get on


async def test_a_return_on_a_new_connection_is_matched_by_its_request(
    tmp_path: Path, new_pod: NewPod
) -> None:
    """The same load without keep-alive connections; each client repeats its own request."""

    async def half_a_second(conversation: Conversation) -> None:
        await asyncio.sleep(0.5)
        conversation.answer(b"{}")

    returns, admitted = 0, 0

    async def client(session: aiohttp.ClientSession, port: int, number: int, end: float) -> None:
        nonlocal returns, admitted
        refused = False
        url = f"http://127.0.0.1:{port}/v1/completions"
        while time.monotonic() < end:
            body = {"model": "m", "prompt": f"client {number}"}
            async with session.post(url, json=body) as answer:
                await answer.read()
            returns += refused
            admitted += refused and answer.status == 200
            refused = answer.status == 429
            if refused:
                await asyncio.sleep(int(answer.headers["retry-after"]))

    pod = await new_pod(half_a_second)
    bounds = {"Q2": {"maxQueueLength": 64}}
    async with gateway_process(tmp_path, pod.address, seatsPerReplica=20, classes=bounds) as (
        port,
        _,
    ):
        end = time.monotonic() + 12.0
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        async with aiohttp.ClientSession(connector=connector) as session:
            await asyncio.gather(*(client(session, port, number, end) for number in range(150)))
    assert returns > 100
    assert admitted >= 0.9 * returns

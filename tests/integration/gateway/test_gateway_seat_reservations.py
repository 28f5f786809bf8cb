"""Seat reservations of the operator, over the real admin port."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from r1_common.contracts.priority_classes import PriorityClass
from r1_gateway.server import GatewayServer
from r1_operator.api.scaling import ClassName
from r1_operator.sources.gateways import GatewayDirectory
from r1_operator.sources.signals import GatewaySignals
from scripted_pod import Conversation, ScriptedPod, until

OpenGateway = Callable[..., Awaitable[GatewayServer]]
NewPod = Callable[..., Awaitable[ScriptedPod]]
WITH_TARGET = {"Q1": {"timeToFirstTokenMilliseconds": 500}}


async def reserve_seats(server: GatewayServer, body: Any) -> tuple[int, str]:
    """PUT the reservations; status and text of the response."""
    url = f"http://127.0.0.1:{server.admin_port}/seat-reservations"
    async with (
        aiohttp.ClientSession() as session,
        session.put(url, data=json.dumps(body)) as response,
    ):
        return response.status, await response.text()


async def ask(session: aiohttp.ClientSession, server: GatewayServer, klass: str) -> int:
    url = f"http://127.0.0.1:{server.port}/v1/chat/completions"
    async with session.post(url, json={"model": "m"}, headers={"x-r1-priority": klass}) as response:
        await response.read()
        return response.status


async def test_seats_reserved_by_the_operator_stay_free_for_urgent_requests(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    let_go = asyncio.Event()

    async def slow(conversation: Conversation) -> None:
        await let_go.wait()
        conversation.answer(b"{}")

    pod = await new_pod(slow)
    server = await open_gateway(pod, classes=WITH_TARGET)
    admission = server.gateway.routes["default/m"].admission
    body = {"validSeconds": 30, "routes": {"default/m": {"Q1": 2}, "default/unknown": {"Q1": 1}}}
    assert await reserve_seats(server, body) == (204, "")
    async with aiohttp.ClientSession() as session:
        batch = [asyncio.create_task(ask(session, server, "Q3")) for _ in range(4)]
        await until(lambda: admission.waiting == 2)
        metrics = f"http://127.0.0.1:{server.admin_port}/metrics"
        async with session.get(metrics) as answer:
            text = await answer.text()
        labels = 'class="Q3",inference="m",inference_namespace="default"'
        assert f"r1_gateway_seats_reserved{{{labels}}} 2.0" in text
        assert f"r1_gateway_seats_reserved_by_operator{{{labels}}} 2.0" in text
        urgent = asyncio.create_task(ask(session, server, "Q1"))
        await until(lambda: len(pod.requests) == 3)
        assert admission.waiting == 2, "less urgent work leaves the seats alone"
        let_go.set()
        assert await asyncio.gather(urgent, *batch) == [200] * 5


@pytest.mark.parametrize("body", [[], {"validSeconds": 10, "routes": {"default/m": {"Q9": 1}}}])
async def test_invalid_seat_reservations_are_rejected_with_the_reason(
    open_gateway: OpenGateway, body: Any
) -> None:
    server = await open_gateway(classes=WITH_TARGET)
    status, text = await reserve_seats(server, body)
    assert status == 400
    assert "error" in json.loads(text)


async def test_seat_reservations_of_the_operators_client_are_applied(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    server = await open_gateway(await new_pod(), classes=WITH_TARGET)
    url = f"http://127.0.0.1:{server.admin_port}"
    signals = GatewaySignals(GatewayDirectory(None, urls=(url,)))
    async with aiohttp.ClientSession() as session:
        assert await ask(session, server, "Q1") == 200
    (sample,) = (await signals.read()).routes["default/m"]
    assert sample.offered_by_class == {ClassName.Q1: 1, ClassName.Q2: 0, ClassName.Q3: 0}
    assert sample.seat_seconds is not None
    await signals.reserve_seats({"default/m": {"Q1": 2}}, 30.0)
    admission = server.gateway.routes["default/m"].admission
    assert admission.reserved_against(PriorityClass.Q3, server.gateway.now()) == (2, 2)
    await signals.close()


async def test_the_admin_port_needs_its_token_and_the_operator_sends_it(
    open_gateway: OpenGateway, new_pod: NewPod, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    server = await open_gateway(await new_pod(), options={"admin_token_file": token})
    url = f"http://127.0.0.1:{server.admin_port}"
    async with aiohttp.ClientSession() as session:
        statuses: dict[str, list[int]] = {}
        for path in ("/healthz", "/readyz", "/metrics", "/signals"):
            for given in (None, "Bearer wrong", "Bearer s3cret"):
                headers = {} if given is None else {"authorization": given}
                async with session.get(url + path, headers=headers) as response:
                    statuses.setdefault(path, []).append(response.status)
        async with session.put(f"{url}/seat-reservations", json={}) as response:
            assert response.status == 401
    assert statuses == {
        "/healthz": [200] * 3,
        "/readyz": [200] * 3,
        "/metrics": [401, 401, 200],
        "/signals": [401, 401, 200],
    }
    directory = GatewayDirectory(None, urls=(url,))
    for file, silent in ((token, 0), (None, 1), (tmp_path / "absent", 1)):
        signals = GatewaySignals(directory, token_file=file)
        assert len((await signals.read()).silent) == silent
        await signals.close()
    token.write_text("rotated")
    signals = GatewaySignals(directory, token_file=token)
    assert not (await signals.read()).silent
    await signals.close()

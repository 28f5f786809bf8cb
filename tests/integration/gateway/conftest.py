"""A real gateway on loopback, in front of scripted pods."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import uvloop

from r1_gateway.options import GatewayOptions
from r1_gateway.server import GatewayServer
from scripted_pod import Script, ScriptedPod, answer_briefly


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop that runs in production."""
    return {"uvloop": uvloop.new_event_loop}


@pytest_asyncio.fixture
async def new_pod() -> AsyncIterator[Callable[..., Awaitable[ScriptedPod]]]:
    """Starts pods, and stops them after the test."""
    pods: list[ScriptedPod] = []

    async def start(script: Script = answer_briefly, port: int = 0) -> ScriptedPod:
        pod = await ScriptedPod(script).start(port)
        pods.append(pod)
        return pod

    yield start
    for pod in pods:
        await pod.stop()


@pytest_asyncio.fixture
async def open_gateway(
    tmp_path: Path,
) -> AsyncIterator[Callable[..., Awaitable[GatewayServer]]]:
    """Starts a gateway with one route ``m`` to the given pods, and stops it after the test."""
    gateways: list[GatewayServer] = []

    async def start(
        *pods: ScriptedPod, keys: object = None, options: dict[str, Any] | None = None, **route: Any
    ) -> GatewayServer:
        config = tmp_path / f"routes-{len(gateways)}.json"
        entry = {
            "namespace": "default",
            "name": "m",
            "models": ["m", "chat"],
            "seatsPerReplica": 4,
            "endpoints": [pod.address for pod in pods],
            **route,
        }
        config.write_text(json.dumps({"routes": [entry]}))
        extra = {"linger_seconds": 0, "drain_seconds": 2, **(options or {})}
        if keys is not None:
            extra["keys_file"] = tmp_path / "keys.json"
            extra["keys_file"].write_text(json.dumps(keys))
        server = GatewayServer(
            GatewayOptions(
                host="127.0.0.1",
                port=0,
                admin_host="127.0.0.1",
                admin_port=0,
                name="g",
                config=config,
                **extra,
            )
        )
        await server.start()
        gateways.append(server)
        return server

    yield start
    stop_now = asyncio.Event()
    stop_now.set()
    for server in gateways:
        await server.stop(stop_now)

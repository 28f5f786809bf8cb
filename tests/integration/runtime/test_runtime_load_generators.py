"""Streams for the request bodies of load generators."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

import r1_runtime
from runtime_process import Server, started, until_ready

MODEL = Path(r1_runtime.__path__[0]) / "models_bundled" / "demo"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("server") / "log"
    with started(MODEL, log, "--max-num-seqs", "4") as running:
        asyncio.run(until_ready(running))
        yield running


@pytest.fixture
async def http(server: Server) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(server.url) as session:
        yield session


async def events(http: aiohttp.ClientSession, path: str, body: object) -> list[Any]:
    async with http.post(path, json=body) as answer:
        assert answer.status == 200, await answer.text()
        lines = [line.decode().strip() async for line in answer.content]
    data = [line.removeprefix("data: ") for line in lines if line]
    assert data.pop() == "[DONE]"
    return [json.loads(line) for line in data]


# What `vllm bench serve` sends by its backends `openai` and `openai-chat`.
BENCH_COMPLETION: dict[str, Any] = {
    "model": "tiny",
    "prompt": "A pod is",
    "repetition_penalty": 1.0,
    "max_tokens": 16,
    "logprobs": None,
    "stream": True,
    "stream_options": {"include_usage": True},
    "ignore_eos": True,
    "temperature": 0.0,
}
BENCH_CHAT: dict[str, Any] = {
    "model": "tiny",
    "messages": [{"role": "user", "content": [{"type": "text", "text": "What is a pod?"}]}],
    "max_completion_tokens": 16,
    "stream": True,
    "stream_options": {"include_usage": True},
    "ignore_eos": True,
    "temperature": 0.0,
}


@pytest.mark.parametrize(
    ("path", "body"),
    [("/v1/completions", BENCH_COMPLETION), ("/v1/chat/completions", BENCH_CHAT)],
)
async def test_bodies_of_vllm_bench_serve_are_answered_with_all_tokens(
    http: aiohttp.ClientSession, path: str, body: dict[str, Any]
) -> None:
    streams = await asyncio.gather(*(events(http, path, body) for _ in range(8)))
    for stream in streams:
        assert stream[-1]["usage"]["completion_tokens"] == 16
        assert stream[-1]["choices"] == []
        assert any(choice for event in stream[:-1] for choice in event["choices"])

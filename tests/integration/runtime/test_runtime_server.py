"""A runtime process over TCP: responses, streams, rejections, disconnects, drains."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from r1_runtime.training.random_model import write_random_model
from runtime_process import START_SECONDS, Server, started, until_ready

CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 8}
# The untrained model may sample its end token at any time.
ENDLESS = CHAT | {"max_tokens": 1000, "ignore_eos": True}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served-model")
    write_random_model(folder)
    return folder


@pytest.fixture(scope="module")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("server") / "log"
    with started(model, log, "--max-num-seqs", "2", "--max-waiting", "2") as running:
        asyncio.run(until_ready(running))
        yield running
        running.terminate()
        assert running.process.wait(60) == 0, log.read_text()
        assert "Traceback" not in log.read_text()


@pytest.fixture
async def http(server: Server) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(server.url) as session:
        yield session


async def post(http: aiohttp.ClientSession, body: object, path: str = "chat/completions") -> Any:
    async with http.post(f"/v1/{path}", json=body) as answer:
        return answer.status, await answer.json(), answer.headers


async def events(http: aiohttp.ClientSession, body: object, path: str) -> list[Any]:
    async with http.post(f"/v1/{path}", json=body) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        lines = [line.decode().strip() async for line in answer.content]
    data = [line.removeprefix("data: ") for line in lines if line]
    assert data[-1] == "[DONE]"
    return [json.loads(line) for line in data[:-1]]


async def gauge(http: aiohttp.ClientSession, name: str) -> float:
    async with http.get("/metrics") as answer:
        text = await answer.text()
    values = [line.rsplit(" ", 1)[1] for line in text.splitlines() if line.startswith(name + "{")]
    return sum(map(float, values))


async def eventually(http: aiohttp.ClientSession, name: str, wanted: float) -> None:
    for _ in range(600):
        if await gauge(http, name) == wanted:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"{name} is {await gauge(http, name)}, not {wanted}")


async def test_chat_response_has_usage(http: aiohttp.ClientSession) -> None:
    status, body, _ = await post(http, CHAT | {"ignore_eos": True, "temperature": 0})
    assert (status, body["object"], body["model"]) == (200, "chat.completion", "tiny")
    assert body["choices"][0]["message"]["role"] == "assistant"
    assert body["choices"][0]["finish_reason"] == "length"
    usage = body["usage"]
    assert usage["completion_tokens"] == 8
    assert usage["total_tokens"] == usage["prompt_tokens"] + 8


async def test_stream_and_full_response_have_the_same_text(http: aiohttp.ClientSession) -> None:
    wanted = CHAT | {"temperature": 0.8, "seed": 5, "max_tokens": 40, "ignore_eos": True}
    _, whole, _ = await post(http, wanted)
    options = {"stream": True, "stream_options": {"include_usage": True}}
    chunks = await events(http, wanted | options, "chat/completions")
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    text = "".join(c["choices"][0]["delta"].get("content", "") for c in chunks if c["choices"])
    assert text == whole["choices"][0]["message"]["content"]
    assert chunks[-2]["choices"][0]["finish_reason"] == "length"
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == whole["usage"]


async def test_completion_accepts_text_or_tokens_and_streams(http: aiohttp.ClientSession) -> None:
    wanted = {"model": "alias", "prompt": "A pod", "temperature": 0, "ignore_eos": True}
    status, whole, _ = await post(http, wanted, "completions")
    assert (status, whole["model"], whole["usage"]["completion_tokens"]) == (200, "alias", 16)
    chunks = await events(http, wanted | {"stream": True}, "completions")
    assert "".join(c["choices"][0]["text"] for c in chunks) == whole["choices"][0]["text"]
    assert "usage" not in chunks[-1]
    status, by_token, _ = await post(http, wanted | {"prompt": [0, 5, 6]}, "completions")
    assert (status, by_token["usage"]["prompt_tokens"]) == (200, 3)


async def test_a_stop_string_ends_the_text_and_is_not_in_it(http: aiohttp.ClientSession) -> None:
    wanted = {"model": "tiny", "prompt": "x", "temperature": 0, "ignore_eos": True}
    _, free, _ = await post(http, wanted | {"max_tokens": 30}, "completions")
    text = free["choices"][0]["text"]
    stop = text[len(text) // 2 :][:2]
    _, cut, _ = await post(http, wanted | {"max_tokens": 30, "stop": [stop]}, "completions")
    assert cut["choices"][0]["finish_reason"] == "stop"
    assert cut["choices"][0]["text"] == text[: text.index(stop)]


async def test_rejected_requests_get_openai_errors(http: aiohttp.ClientSession) -> None:
    status, body, _ = await post(http, CHAT | {"model": "other"})
    assert (status, body["error"]["code"]) == (404, "model_not_found")
    status, body, _ = await post(http, CHAT | {"n": 5})
    assert (status, body["error"]["param"]) == (400, "n")  # two run and two wait at most
    long = {"model": "tiny", "prompt": [5] * 2048}
    status, body, _ = await post(http, long, "completions")
    assert (status, body["error"]["code"]) == (400, "context_length_exceeded")
    status, body, _ = await post(http, {"model": "tiny", "prompt": [10**6]}, "completions")
    assert (status, body["error"]["param"]) == (400, "prompt")
    async with http.post(
        "/v1/chat/completions", json=CHAT, headers={"x-r1-priority": "Q9"}
    ) as answer:
        body = await answer.json()
        assert (answer.status, body["error"]["param"]) == (400, "x-r1-priority")
        assert "one of Q1, Q2, Q3" in body["error"]["message"]
    async with http.post("/v1/completions", data="{") as answer:
        assert answer.status == 400
        assert "not JSON" in (await answer.json())["error"]["message"]
    async with http.get("/v1/nothing") as answer:
        assert (answer.status, (await answer.json())["error"]["message"]) == (
            404,
            "GET /v1/nothing: Not Found; GET /openapi.json lists the endpoints",
        )


async def test_models_lists_every_name_and_retrieves_one(http: aiohttp.ClientSession) -> None:
    async with http.get("/v1/models/alias") as answer:
        assert (answer.status, (await answer.json())["id"]) == (200, "alias")
    async with http.get("/v1/models/other%2Fname") as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (404, "model_not_found")
    async with http.get("/v1/models") as answer:
        body = await answer.json()
    assert [model["id"] for model in body["data"]] == ["tiny", "alias"]
    assert body["data"][0]["max_model_len"] == 2048


async def test_full_queue_rejects_with_retry_after(http: aiohttp.ClientSession) -> None:
    tasks = [asyncio.create_task(post(http, ENDLESS)) for _ in range(4)]
    try:
        await eventually(http, "vllm:num_requests_waiting", 2)
        status, body, headers = await post(http, CHAT)
        assert (status, body["error"]["code"]) == (429, "queue_full")
        assert int(headers["Retry-After"]) >= 1
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await eventually(http, "vllm:num_requests_running", 0)


@pytest.mark.parametrize("stream", [True, False])
async def test_client_disconnect_frees_its_seat(
    server: Server, http: aiohttp.ClientSession, stream: bool
) -> None:
    before = await gauge(http, "vllm:request_success_total")
    async with aiohttp.ClientSession(server.url) as leaving:
        task = asyncio.create_task(
            leaving.post("/v1/chat/completions", json=ENDLESS | {"stream": stream})
        )
        await eventually(http, "vllm:num_requests_running", 1)
        task.cancel()
        for answer in await asyncio.gather(task, return_exceptions=True):
            if isinstance(answer, aiohttp.ClientResponse):  # its head has arrived already
                answer.close()
    await eventually(http, "vllm:num_requests_running", 0)
    assert await gauge(http, "vllm:request_success_total") == before + 1
    assert await gauge(http, "vllm:kv_cache_usage_perc") == 0


async def test_openai_client_library_works(server: Server) -> None:
    openai = pytest.importorskip("openai")
    client = openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="none")
    async with client:
        stream = await client.chat.completions.create(**(CHAT | {"stream": True}))
        parts = [chunk.choices[0].delta.content or "" async for chunk in stream]
        assert len(parts) >= 1
        with pytest.raises(openai.BadRequestError, match="temperature"):
            await client.chat.completions.create(**(CHAT | {"temperature": 5}))


async def test_drain_finishes_running_requests_and_rejects_new_ones(
    model: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with started(model, log) as server:
        async with aiohttp.ClientSession(server.url) as http:
            await check_loading(server, http)
            await until_ready(server)
            await check_draining(server, http)
        assert server.process.wait(60) == 0
    text = log.read_text()
    assert "start-up seconds: python=" in text
    assert "Drained" in text


async def check_loading(server: Server, http: aiohttp.ClientSession) -> None:
    """Check the responses before the model is loaded: the port opens long before."""
    while True:
        try:
            async with http.get("/health") as answer:
                assert answer.status == 200
                break
        except aiohttp.ClientError:
            assert server.process.poll() is None
            await asyncio.sleep(0.02)
    async with http.get("/ready") as answer:
        assert answer.status == 503
    status, _, headers = await post(http, CHAT)
    assert (status, "Retry-After" in headers) == (503, True)


async def check_draining(server: Server, http: aiohttp.ClientSession) -> None:
    """Check a drain with seven long responses in flight and one free seat."""
    async with http.post("/v1/chat/completions", json=ENDLESS | {"stream": True}) as running:
        await running.content.readline()
        whole = [asyncio.create_task(post(http, ENDLESS)) for _ in range(6)]
        await eventually(http, "vllm:num_requests_running", 7)
        server.terminate()
        status, body, headers = 200, {}, {}
        while status == 200:  # until the signal has arrived
            status, body, headers = await post(http, CHAT | {"max_tokens": 1})
        assert (status, "shutting down" in body["error"]["message"]) == (503, True)
        assert "Retry-After" in headers
        rest = [line async for line in running.content]
    for status, body, _ in await asyncio.gather(*whole):
        assert (status, body["usage"]["completion_tokens"]) == (200, ENDLESS["max_tokens"])
    assert rest[-2] == b"data: [DONE]\n"
    assert b'"finish_reason":"length"' in rest[-4]


async def test_drain_timeout_ends_streams_with_an_error(model: Path, tmp_path: Path) -> None:
    with started(model, tmp_path / "log", "--drain-seconds", "0") as server:
        await until_ready(server)
        wanted = ENDLESS | {"stream": True}
        async with (
            aiohttp.ClientSession(server.url) as http,
            http.post("/v1/chat/completions", json=wanted) as running,
        ):
            await running.content.readline()
            server.terminate()
            rest = (await running.content.read()).decode()
        assert '"code":"aborted"' in rest
        assert server.process.wait(60) == 0


def test_a_model_that_does_not_load_ends_with_one_line_and_code_2(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with started(tmp_path, log) as server:
        assert server.process.wait(START_SECONDS) == 2
    last = log.read_text().splitlines()[-1]
    assert last.startswith(f"ModelLoadError: {tmp_path}: config.json is missing. Fix: ")
    assert "Traceback" not in log.read_text()


def test_port_in_use_ends_with_one_line_and_code_2(model: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "r1_runtime.serve", "--model-path", str(model)]
        command += ["--host", "127.0.0.1", "--port", port]
        ended = subprocess.run(
            command, capture_output=True, text=True, check=False, env=dict(os.environ)
        )
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"OptionError: command line: cannot listen on 127.0.0.1:{port}")

"""A runtime process under hostile input and adverse conditions."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import random
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import torch
from safetensors.torch import load_file, save_file

from r1_runtime.server.options import cpu_limit
from r1_runtime.training.random_model import write_random_model
from runtime_process import START_SECONDS, Server, started, until_ready

CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
ENDLESS = CHAT | {"max_tokens": 1500, "ignore_eos": True}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_random_model(folder)
    return folder


@pytest.fixture(scope="module")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("server") / "log"
    with started(model, log, "--max-num-seqs", "1") as running:
        asyncio.run(until_ready(running))
        yield running
        running.terminate()
        assert running.process.wait(60) == 0, log.read_text()
        assert "Traceback" not in log.read_text()


def changed(model: Path, folder: Path, **config: Any) -> Path:
    """A copy of the model with another configuration."""
    shutil.copytree(model, folder)
    raw = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(raw | config))
    return folder


async def post(http: aiohttp.ClientSession, body: object, path: str = "chat/completions") -> Any:
    data = io.BytesIO(json.dumps(body).encode())  # aiohttp warns of large bytes
    async with http.post(f"/v1/{path}", data=data) as answer:
        return answer.status, await answer.json()


async def until_one_waits(http: aiohttp.ClientSession) -> None:
    for _ in range(3000):
        if await waiting(http):
            return
        await asyncio.sleep(0.02)
    raise AssertionError("no request waits")


async def waiting(http: aiohttp.ClientSession) -> int:
    async with http.get("/metrics") as answer:
        lines = (await answer.text()).splitlines()
    return sum(
        int(float(line.rsplit(" ", 1)[1]))
        for line in lines
        if line.startswith("vllm:num_requests_waiting{")
    )


async def test_stream_sends_no_byte_before_the_first_token(server: Server) -> None:
    async with aiohttp.ClientSession(server.url) as http:
        first = await http.post("/v1/chat/completions", json=ENDLESS | {"stream": True})
        await first.content.readline()  # it runs on the only seat
        queued = asyncio.create_task(
            http.post("/v1/chat/completions", json=CHAT | {"stream": True})
        )
        await until_one_waits(http)
        await asyncio.sleep(0.3)
        assert not queued.done(), "a head was written before there was a token"
        first.close()  # its seat is free
        async with await queued as answer:
            assert answer.status == 200
            chunk = json.loads((await answer.content.readline()).removeprefix(b"data: "))
        assert chunk["choices"][0]["delta"] == {"role": "assistant", "content": ""}


async def test_a_stream_aborted_before_its_first_token_has_the_status_503(
    model: Path, tmp_path: Path
) -> None:
    arguments = ("--drain-seconds", "0", "--max-num-seqs", "1")
    with started(model, tmp_path / "log", *arguments) as server:
        await until_ready(server)
        async with aiohttp.ClientSession(server.url) as http:
            first = await http.post("/v1/chat/completions", json=ENDLESS | {"stream": True})
            await first.content.readline()
            queued = asyncio.create_task(post(http, CHAT | {"stream": True}))
            await until_one_waits(http)
            server.terminate()
            status, body = await queued
            first.close()
        assert (status, body["error"]["code"]) == (503, "aborted")
        assert server.process.wait(60) == 0


async def test_prompt_longer_than_the_context_is_rejected(server: Server) -> None:
    text = "word " * 1_500_000
    async with aiohttp.ClientSession(server.url) as http:
        for path, body in (
            ("completions", {"model": "tiny", "prompt": text}),
            ("chat/completions", CHAT | {"messages": [{"role": "user", "content": text}]}),
            ("completions", {"model": "tiny", "prompt": [5] * 2_000_000}),
        ):
            status, answer = await post(http, body, path)
            assert (status, answer["error"]["code"]) == (400, "context_length_exceeded")


async def test_health_responds_while_megabytes_are_tokenised(model: Path, tmp_path: Path) -> None:
    """The prompt fits into the context by its bytes and not by its tokens."""
    large = changed(model, tmp_path / "large", max_position_embeddings=1_000_000)
    with started(large, tmp_path / "log", "--max-num-seqs", "1") as server:
        await until_ready(server)
        async with aiohttp.ClientSession(server.url) as http:
            body = {"model": "tiny", "prompt": "0123456789" * 780_000}
            long = asyncio.create_task(post(http, body, "completions"))
            answers = short = 0
            while not long.done():
                async with http.get("/health") as answer:
                    assert answer.status == 200
                    answers += 1
                if answers == 5:
                    status, _ = await post(http, CHAT)
                    short = status if not long.done() else 0
                await asyncio.sleep(0.01)
            status, refusal = await long
        assert (status, refusal["error"]["code"]) == (400, "context_length_exceeded")
        assert answers > 5
        assert short == 200, "a short request waited for the long prompt"


@pytest.mark.parametrize(
    ("encoding", "status"),
    [("gzip", 400), ("deflate", 400), ("br", 415), ("zstd", 415), ("x", 415)],
)
async def test_body_that_does_not_match_its_content_encoding_is_rejected(
    server: Server, encoding: str, status: int
) -> None:
    async with (
        aiohttp.ClientSession(server.url) as http,
        http.post(
            "/v1/chat/completions", data=json.dumps(CHAT), headers={"Content-Encoding": encoding}
        ) as answer,
    ):
        assert answer.content_type == "application/json"
        body = await answer.json()
        assert (answer.status, body["error"]["param"]) == (status, "Content-Encoding")


@pytest.mark.parametrize(
    "data",
    [b"nonsense\r\n\r\n", b"GET /health HTTP/1.1\r\nno colon\r\n\r\n", b"\x16\x03\x01\x02\x00"],
)
async def test_malformed_http_is_rejected_with_a_json_error(server: Server, data: bytes) -> None:
    address = server.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(address[0], int(address[1]))
    writer.write(data)
    writer.write_eof()
    answer = await asyncio.wait_for(reader.read(), 60)
    writer.close()
    if answer:
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 "))
        assert "not valid HTTP" in json.loads(body)["error"]["message"]


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("POST", {"Content-Encoding": ""}, 200),
        ("POST", {"Content-Encoding": "identity, gzip"}, 415),
        ("POST", {"Expect": "100-continue"}, 200),
        ("POST", {"Expect": "202-accepted"}, 417),
        ("PUT", {}, 405),
    ],
)
async def test_unusual_request_heads_get_json_responses(
    server: Server, method: str, headers: dict[str, str], status: int
) -> None:
    async with (
        aiohttp.ClientSession(server.url) as http,
        http.request(
            method, "/v1/chat/completions", data=json.dumps(CHAT), headers=headers
        ) as answer,
    ):
        assert answer.status == status
        assert ("error" in await answer.json()) == (status != 200)
        assert status != 405 or answer.headers["Allow"] == "POST"


async def test_two_content_encodings_are_rejected(server: Server) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
    body = gzip.compress(json.dumps(CHAT).encode())
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    head += "Content-Encoding: gzip\r\nContent-Encoding: identity\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    assert b" 415 " in await reader.readline()
    writer.close()


async def test_a_compressed_body_is_read(server: Server) -> None:
    async with aiohttp.ClientSession(server.url) as http:
        data = aiohttp.payload.JsonPayload(CHAT)
        async with http.post("/v1/chat/completions", data=data, compress="gzip") as answer:
            assert answer.status == 200


async def test_client_disconnects_log_no_traceback(server: Server) -> None:
    """The fixture reads the log at the end."""
    address = server.url.removeprefix("http://").split(":")
    for body in (ENDLESS | {"stream": True}, ENDLESS):
        data = json.dumps(body).encode()
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
        for request in (
            head % len(data) + data,  # no response is read
            head % len(data) + data[:20],  # half a body
            head[:30],  # half a head
        ):
            _, writer = await asyncio.open_connection(address[0], int(address[1]))
            writer.write(request)
            await writer.drain()
            await asyncio.sleep(0.2)
            writer.transport.abort()


VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 2**63, -(2**63), 10**30, 0.5, 1e308, -0.0, "", "5", "x", "0.5"),
    *([], [0], [True], ["a"], [[]], [[1]], {}, {"a": 1}, {"type": "text"}, [{}], [None]),
]
FIELDS = [
    "model",
    "messages",
    "prompt",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "seed",
    "stop",
    "stream",
    "stream_options",
    "ignore_eos",
    "n",
    "best_of",
    "logprobs",
    "top_logprobs",
    "presence_penalty",
    "repetition_penalty",
    "top_k",
    "min_p",
    "min_tokens",
    "logit_bias",
    "tools",
    "tool_choice",
    "response_format",
    "chat_template_kwargs",
    "user",
    "stop_token_ids",
    "echo",
    "suffix",
    "priority",
    "store",
    "metadata",
    "unknown",
]


async def test_any_type_in_any_field_results_in_200_or_400(server: Server) -> None:
    draw = random.Random(7)
    async with aiohttp.ClientSession(server.url) as http:
        for _ in range(200):
            path = draw.choice(["chat/completions", "completions"])
            body: dict[str, Any] = dict(CHAT)
            if path == "completions":
                body = {"model": "tiny", "prompt": "x"}
            for name in draw.sample(FIELDS, 2):
                body[name] = draw.choice(VALUES)
            async with http.post(f"/v1/{path}", json=body) as answer:
                text = await answer.text()
            allowed = (200, 400, 404) if body["model"] != "tiny" else (200, 400)
            assert answer.status in allowed, (body, text)
            if answer.status == 400:
                assert json.loads(text)["error"]["param"], (body, text)


async def test_non_finite_logits_end_one_request_only(model: Path, tmp_path: Path) -> None:
    broken = changed(model, tmp_path / "broken", tie_word_embeddings=False)
    weights = load_file(broken / "model.safetensors")
    embedding = weights["model.embed_tokens.weight"]
    weights["lm_head.weight"] = embedding.clone()
    embedding[7] = torch.nan
    save_file(weights, broken / "model.safetensors")
    with started(broken, tmp_path / "log", "--max-num-seqs", "4") as server:
        await until_ready(server)
        async with aiohttp.ClientSession(server.url) as http:
            wanted = {"model": "tiny", "prompt": [5] * 40, "max_tokens": 60, "temperature": 0}
            wanted |= {"ignore_eos": True, "logit_bias": {}}
            _, alone = await post(http, wanted, "completions")
            good = [asyncio.create_task(post(http, wanted, "completions")) for _ in range(2)]
            for temperature in (0, 1):
                bad = {"model": "tiny", "prompt": [5, 7], "temperature": temperature}
                status, answer = await post(http, bad, "completions")
                assert (status, "not finite" in answer["error"]["message"]) == (500, True)
            for status, answer in await asyncio.gather(*good):
                assert status == 200
                assert answer["choices"][0]["text"] == alone["choices"][0]["text"]


SLOW = """
import sys, time
from r1_runtime import serve
from r1_runtime.server import service
opened = service.Service.open
def open_slowly(self, engine, *rest):
    execute = engine._runner.execute
    def slow(step):
        time.sleep(8)
        return execute(step)
    engine._runner.execute = slow
    opened(self, engine, *rest)
service.Service.open = open_slowly
sys.exit(serve.main(sys.argv[1:]))
"""


@pytest.mark.parametrize(("limit", "status"), [("0", 503), ("60", 200)])
async def test_drain_ends_with_code_0_during_a_step_of_8_seconds(
    model: Path, tmp_path: Path, limit: str, status: int
) -> None:
    log = tmp_path / "log"
    program = ("-c", SLOW)
    with started(model, log, "--drain-seconds", limit, program=program) as server:
        await until_ready(server)
        async with aiohttp.ClientSession(server.url) as http:
            running = asyncio.create_task(post(http, CHAT | {"max_tokens": 1}))
            await asyncio.sleep(1)  # its step takes 8 s
            server.terminate()
            assert (await running)[0] == status
        assert server.process.wait(60) == 0, log.read_text()
    assert "Traceback" not in log.read_text()


SLEEPY = """
import sys, time
from pathlib import Path
from r1_runtime import serve
def parse(_):
    Path(MARKER).touch()
    time.sleep(60)
serve.parse_options = parse
sys.exit(serve.main(sys.argv[1:]))
"""


def test_sigterm_before_listening_ends_with_code_0(model: Path, tmp_path: Path) -> None:
    marker = tmp_path / "begun"
    program = ("-c", f"MARKER = {str(marker)!r}{SLEEPY}")
    with started(model, tmp_path / "log", program=program) as server:
        while not marker.exists():
            assert server.process.poll() is None
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0


async def test_openmp_spinning_is_bounded_and_threads_are_measured(
    model: Path, tmp_path: Path
) -> None:
    """libgomp prints its settings when it is loaded."""
    log = tmp_path / "log"
    environment = {"OMP_DISPLAY_ENV": "verbose"}
    options = ("--backend", "reference", "--threads", "0")
    with started(model, log, *options, environment=environment) as server:
        await until_ready(server)
    text = log.read_text()
    assert "GOMP_SPINCOUNT = '1000'" in text
    assert cpu_limit() == 1 or "threads by measurement of a step" in text
    assert "Weights and cache are float32, computed by torch" in text


async def test_openmp_policy_of_the_user_is_unchanged(model: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    environment = {"OMP_DISPLAY_ENV": "verbose", "OMP_WAIT_POLICY": "passive"}
    with started(model, log, "--backend", "reference", environment=environment) as server:
        await until_ready(server)
    assert "GOMP_SPINCOUNT = '0'" in log.read_text()


async def test_native_backend_serves_without_torch_and_measures_its_threads(
    model: Path, tmp_path: Path
) -> None:
    """libgomp, which comes with torch, would print its settings."""
    log = tmp_path / "log"
    environment = {"OMP_DISPLAY_ENV": "verbose"}
    with started(model, log, "--threads", "0", environment=environment) as server:
        await until_ready(server)
        mapped = mapped_files(server)
    text = log.read_text()
    assert "The native CPU backend serves." in text
    assert cpu_limit() == 1 or "threads by measurement of a step" in text
    assert "OPENMP DISPLAY" not in text
    assert "libtorch" not in mapped


def mapped_files(server: Server) -> str:
    return Path(f"/proc/{server.process.pid}/maps").read_text()


def test_cache_larger_than_memory_is_rejected_before_allocation(
    model: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with started(model, log, "--num-blocks", "100000000") as server:
        assert server.process.wait(START_SECONDS) == 2
    last = log.read_text().splitlines()[-1]
    assert last.startswith("OptionError: memory: weights 0.3 MiB, cache ")
    assert "Fix: --num-blocks at most " in last
    assert "Traceback" not in log.read_text()


async def test_model_starts_with_its_own_length_and_recommended_sampling(
    model: Path, tmp_path: Path
) -> None:
    short = changed(model, tmp_path / "short", max_position_embeddings=1024)
    recommended = {"temperature": 0.0, "max_new_tokens": 3, "top_k": 20}
    (short / "generation_config.json").write_text(json.dumps(recommended))
    log = tmp_path / "log"
    with started(short, log) as server:
        await until_ready(server)
        async with aiohttp.ClientSession(server.url) as http:
            async with http.get("/v1/models") as answer:
                assert (await answer.json())["data"][0]["max_model_len"] == 1024
            wanted = {"model": "tiny", "messages": CHAT["messages"], "ignore_eos": True}
            answers = [await post(http, wanted) for _ in range(3)]
            assert {body["usage"]["completion_tokens"] for _, body in answers} == {3}
            texts = {body["choices"][0]["message"]["content"] for _, body in answers}
            assert len(texts) == 1, "temperature 0 is repeatable"
            _, own = await post(http, wanted | {"max_tokens": 5})
            assert own["usage"]["completion_tokens"] == 5

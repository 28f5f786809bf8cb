"""Embeddings and tokens of responses over TCP, by the `openai` library and by plain HTTP clients."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import openai
import pytest

import r1_runtime
from runtime_process import Server, started, until_ready

MODEL = Path(r1_runtime.__path__[0]) / "models_bundled" / "demo"
TEXTS = ["A pod is a group of containers.", "An index makes queries faster.", "A pod"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("server") / "log"
    with started(MODEL, log, "--speculation", "ngram", "--max-drafts", "3") as running:
        asyncio.run(until_ready(running))
        yield running
        running.terminate()
        assert running.process.wait(60) == 0, log.read_text()
        assert "Traceback" not in log.read_text()


@pytest.fixture
async def client(server: Server) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="none") as made:
        yield made


@pytest.fixture
async def http(server: Server) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(server.url) as session:
        yield session


async def post(http: aiohttp.ClientSession, path: str, body: object) -> tuple[int, Any]:
    async with http.post(path, json=body) as answer:
        return answer.status, await answer.json()


async def vectors(client: openai.AsyncOpenAI, **fields: Any) -> list[list[float]]:
    answer = await client.embeddings.create(**({"model": "tiny", "input": TEXTS} | fields))
    assert [item.index for item in answer.data] == list(range(len(answer.data)))
    return [item.embedding for item in answer.data]


async def test_openai_client_gets_one_unit_vector_per_input(client: openai.AsyncOpenAI) -> None:
    # The library requests base64 unless a format is given.
    for pooling in ("last", "mean"):
        extra = {"extra_body": {"pooling": pooling}}
        decoded = await vectors(client, **extra)
        written = await vectors(client, encoding_format="float", **extra)
        np.testing.assert_allclose(decoded, written, atol=1e-6)
        assert len(decoded) == len(TEXTS)
        assert all(math.isclose(math.hypot(*each), 1, abs_tol=1e-4) for each in decoded)
        alone = await vectors(client, input=TEXTS[1], **extra)
        np.testing.assert_allclose(alone[0], decoded[1], atol=1e-4)
    assert decoded[0] != decoded[1]


async def test_tokens_are_an_input_and_usage_counts_them(
    client: openai.AsyncOpenAI, http: aiohttp.ClientSession
) -> None:
    _, tokens = await post(http, "/tokenize", {"prompt": TEXTS[0]})
    answer = await client.embeddings.create(model="tiny", input=[tokens["tokens"]])
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == tokens["count"]
    expected = await vectors(client, input=TEXTS[0])
    np.testing.assert_allclose(answer.data[0].embedding, expected[0], atol=1e-4)


async def test_fewer_dimensions_are_the_first_values_at_length_1(
    client: openai.AsyncOpenAI,
) -> None:
    whole = np.array((await vectors(client, input=TEXTS[0]))[0])
    short = np.array((await vectors(client, input=TEXTS[0], dimensions=7))[0])
    np.testing.assert_allclose(short, whole[:7] / np.linalg.norm(whole[:7]), atol=1e-4)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("input", ""),
        ("input", []),
        ("input", 5),
        ("input", "x " * 3000),
        ("input", [[99999]]),
        ("dimensions", 0),
        ("dimensions", 99999),
        ("encoding_format", "int8"),
        ("pooling", "max"),
        ("temperature", 1),
    ],
)
async def test_an_invalid_field_is_named(
    http: aiohttp.ClientSession, field: str, value: object
) -> None:
    body = {"model": "tiny", "input": "A pod"} | {field: value}
    status, answer = await post(http, "/v1/embeddings", body)
    assert (status, answer["error"]["param"]) == (400, field), answer
    assert answer["error"]["type"] == "invalid_request_error"


async def test_an_unknown_model_is_not_found(http: aiohttp.ClientSession) -> None:
    status, answer = await post(http, "/v1/embeddings", {"model": "other", "input": "A pod"})
    assert (status, answer["error"]["code"]) == (404, "model_not_found")


async def test_responses_have_tokens_where_the_client_asks_for_them(
    http: aiohttp.ClientSession,
) -> None:
    body = {"model": "tiny", "prompt": "A pod is", "max_tokens": 6, "temperature": 0}
    _, plain = await post(http, "/v1/completions", body)
    assert not {"token_ids", "prompt_token_ids"} & plain["choices"][0].keys()
    _, answer = await post(http, "/v1/completions", body | {"return_token_ids": True})
    choice = answer["choices"][0]
    _, tokens = await post(http, "/tokenize", {"prompt": "A pod is"})
    assert choice["prompt_token_ids"] == tokens["tokens"]
    assert len(choice["token_ids"]) == answer["usage"]["completion_tokens"]
    _, text = await post(http, "/detokenize", {"tokens": choice["token_ids"]})
    assert text["prompt"] == choice["text"]
    messages = [{"role": "user", "content": "What is a pod?"}]
    chat = {"model": "tiny", "messages": messages, "max_tokens": 6, "return_token_ids": True}
    _, answer = await post(http, "/v1/chat/completions", chat)
    _, tokens = await post(http, "/tokenize", {"messages": messages})
    assert answer["prompt_token_ids"] == tokens["tokens"]
    assert len(answer["choices"][0]["token_ids"]) == answer["usage"]["completion_tokens"]


async def test_streamed_chunks_have_their_tokens(client: openai.AsyncOpenAI) -> None:
    messages: Any = [{"role": "user", "content": "What is a pod?"}]
    wanted: dict[str, Any] = {
        "model": "tiny",
        "messages": messages,
        "max_tokens": 9,
        "temperature": 0,
        "extra_body": {"return_token_ids": True},
    }
    whole = await client.chat.completions.create(**wanted)
    stream = await client.chat.completions.create(**wanted, stream=True)
    tokens: list[int] = []
    prompts = []
    async for chunk in stream:
        prompts.append(getattr(chunk, "prompt_token_ids", None))
        tokens += getattr(chunk.choices[0], "token_ids", None) or []
    assert tokens == getattr(whole.choices[0], "token_ids", None)
    assert prompts[0] == getattr(whole, "prompt_token_ids", None)
    assert not any(prompts[1:])


async def test_prompt_logprobs_equal_those_of_an_echo(http: aiohttp.ClientSession) -> None:
    body = {"model": "tiny", "prompt": "A pod is a group", "max_tokens": 1, "temperature": 0}
    _, echoed = await post(http, "/v1/completions", body | {"echo": True, "logprobs": 2})
    _, scored = await post(http, "/v1/completions", body | {"prompt_logprobs": 2})
    entries = scored["choices"][0]["prompt_logprobs"]
    expected = echoed["choices"][0]["logprobs"]["token_logprobs"]
    _, tokens = await post(http, "/tokenize", {"prompt": body["prompt"]})
    assert entries[0] is None
    assert len(entries) == tokens["count"]
    for at, token in enumerate(tokens["tokens"][1:], 1):
        entry = entries[at][str(token)]
        assert math.isclose(entry["logprob"], expected[at], abs_tol=1e-4)
        assert {each["rank"] for each in entries[at].values()} >= {1, 2}
    refused, _ = await post(http, "/v1/completions", body | {"prompt_logprobs": 2, "stream": True})
    assert refused == 400


async def test_drafts_are_in_the_metrics(http: aiohttp.ClientSession) -> None:
    text = "one two three four five six " * 8
    body = {"model": "tiny", "prompt": text, "max_tokens": 40, "temperature": 0}
    status, _ = await post(http, "/v1/completions", body | {"ignore_eos": True})
    assert status == 200
    async with http.get("/metrics") as answer:
        lines = (await answer.text()).splitlines()
    counts = {
        line.partition("{")[0]: float(line.rsplit(" ", 1)[1])
        for line in lines
        if line.startswith("vllm:spec_decode_num")
    }
    drafts = counts["vllm:spec_decode_num_drafts_total"]
    tokens = counts["vllm:spec_decode_num_draft_tokens_total"]
    accepted = counts["vllm:spec_decode_num_accepted_tokens_total"]
    assert 0 < drafts <= tokens <= 3 * drafts
    assert 0 <= accepted <= tokens

"""Every parameter of the API has its effect on both bundled models, by one request each."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

import r1_runtime
from r1_runtime.errors import ModelLoadError
from r1_runtime.server.packaged_models import packaged_model
from runtime_process import Server, started, until_ready

DEMO = Path(r1_runtime.__path__[0]) / "models_bundled" / "demo"
CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
PROMPT = "The capital of France is"
BASE: dict[str, dict[str, Any]] = {
    CHAT: {"messages": [{"role": "user", "content": PROMPT}], "max_tokens": 6, "temperature": 0},
    TEXT: {"prompt": PROMPT, "max_tokens": 6, "temperature": 0},
}
SCHEMA = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"]}
STRICT = SCHEMA | {"additionalProperties": False}
TOOL = {"type": "function", "function": {"name": "f", "parameters": STRICT}}
Check = Callable[[Any], bool]


@pytest.fixture(scope="module", params=["demo", "smollm2"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("server") / "log"
    model = DEMO
    if request.param != "demo":
        try:
            model = packaged_model(request.param)
        except ModelLoadError as error:
            pytest.skip(str(error))
    with started(model, log, "--max-num-seqs", "4", "--max-model-len", "512") as running:
        asyncio.run(until_ready(running))
        yield running
        running.terminate()
        assert running.process.wait(60) == 0, log.read_text()
        assert "Traceback" not in log.read_text()


@pytest.fixture
async def http(server: Server) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(server.url) as session:
        yield session


async def post(http: aiohttp.ClientSession, path: str, body: dict[str, Any]) -> Any:
    async with http.post(path, json={"model": "tiny"} | BASE.get(path, {}) | body) as answer:
        text = await answer.text()
    assert answer.status == 200, text
    return json.loads(text)


def content(body: Any) -> str:
    choice = body["choices"][0]
    return str(choice["message"]["content"] if "message" in choice else choice["text"])


def tokens(body: Any) -> int:
    return int(body["usage"]["completion_tokens"])


CASES: list[tuple[str, str, dict[str, Any], Check]] = [
    ("n", CHAT, {"n": 3}, lambda body: len(body["choices"]) == 3),
    ("ignore_eos", CHAT, {"ignore_eos": True}, lambda body: tokens(body) == 6),
    ("max_completion_tokens", CHAT, {"max_completion_tokens": 2}, lambda body: tokens(body) <= 2),
    ("min_tokens", TEXT, {"min_tokens": 5}, lambda body: tokens(body) >= 5),
    ("logit_bias", TEXT, {"logit_bias": {"70": 100}, "logprobs": 0}, lambda body: len(set(body["choices"][0]["logprobs"]["tokens"])) == 1),
    ("stop_token_ids", TEXT, {"logit_bias": {"70": 100}, "stop_token_ids": [70]}, lambda body: (tokens(body), content(body)) == (1, "")),
    ("stop", TEXT, {"logit_bias": {"70": 100}, "stop": ["\u0000"]}, lambda body: tokens(body) == 6),
    ("presence_penalty", TEXT, {"logit_bias": {"70": 10}, "presence_penalty": 2}, lambda body: tokens(body) >= 1),
    ("frequency_penalty", TEXT, {"frequency_penalty": 2}, lambda body: tokens(body) >= 1),
    ("repetition_penalty", TEXT, {"repetition_penalty": 1.3}, lambda body: tokens(body) >= 1),
    ("top_k 1 at any temperature", TEXT, {"temperature": 2, "top_k": 1, "logprobs": 1}, lambda body: all(math.isclose(max(top.values()), value, abs_tol=1e-4) for top, value in zip(body["choices"][0]["logprobs"]["top_logprobs"], body["choices"][0]["logprobs"]["token_logprobs"], strict=True))),
    ("min_p 1 at any temperature", TEXT, {"temperature": 2, "min_p": 1, "logprobs": 1}, lambda body: all(math.isclose(max(top.values()), value, abs_tol=1e-4) for top, value in zip(body["choices"][0]["logprobs"]["top_logprobs"], body["choices"][0]["logprobs"]["token_logprobs"], strict=True))),
    ("echo", TEXT, {"echo": True}, lambda body: content(body).startswith(PROMPT)),
    ("echo alone", TEXT, {"echo": True, "max_tokens": 0, "logprobs": 1}, lambda body: content(body) == PROMPT and tokens(body) == 0),
    ("chat logprobs", CHAT, {"logprobs": True, "top_logprobs": 2}, lambda body: len(body["choices"][0]["logprobs"]["content"][0]["top_logprobs"]) == 2),
    ("prompt_logprobs", CHAT, {"prompt_logprobs": 1}, lambda body: len(body["prompt_logprobs"]) == body["usage"]["prompt_tokens"]),
    ("return_token_ids", CHAT, {"return_token_ids": True}, lambda body: len(body["choices"][0]["token_ids"]) == tokens(body)),
    ("response_format", CHAT, {"max_tokens": 60, "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": STRICT}}}, lambda body: json.loads(content(body))["a"] in (1, 2)),
    ("guided_regex", TEXT, {"guided_regex": "[0-9]{3}"}, lambda body: content(body).isdigit() and len(content(body)) == 3),
    ("guided_choice", CHAT, {"guided_choice": ["Paris", "Rome"]}, lambda body: content(body) in ("Paris", "Rome")),
    ("guided_grammar", TEXT, {"guided_grammar": 'start: "yes" | "no"'}, lambda body: content(body) in ("yes", "no")),
    ("structured_outputs", TEXT, {"max_tokens": 60, "structured_outputs": {"json": STRICT}}, lambda body: json.loads(content(body))["a"] in (1, 2)),
    ("tool_choice", CHAT, {"max_tokens": 60, "tools": [TOOL], "tool_choice": "required", "parallel_tool_calls": False}, lambda body: json.loads(body["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"])["a"] in (1, 2)),
    ("neutral values", TEXT, {"repetition_penalty": 1.0, "length_penalty": 1.0, "best_of": 1, "bad_words": [], "min_p": 0, "top_k": -1}, lambda body: tokens(body) >= 1),
    ("neutral values of a chat", CHAT, {"chat_template_kwargs": {}, "reasoning_effort": "low", "add_generation_prompt": True}, lambda body: tokens(body) >= 1),
    ("cache_salt", TEXT, {"cache_salt": "tenant"}, lambda body: body["usage"]["prompt_tokens_details"]["cached_tokens"] == 0),
    ("responses", "/v1/responses", {"input": PROMPT, "max_output_tokens": 4}, lambda body: body["output"][0]["type"] == "message"),
    ("embeddings", "/v1/embeddings", {"input": [PROMPT, "x"]}, lambda body: math.isclose(sum(each * each for each in body["data"][0]["embedding"]), 1, abs_tol=1e-3)),
    ("tokenize", "/tokenize", {"prompt": PROMPT}, lambda body: body["count"] == len(body["tokens"])),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "check"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])  # fmt: skip
async def test_parameter_has_its_effect(
    http: aiohttp.ClientSession, path: str, body: dict[str, Any], check: Check
) -> None:
    answer = await post(http, path, body)
    assert check(answer), answer


async def test_a_seed_repeats_an_output(http: aiohttp.ClientSession) -> None:
    wanted = {"seed": 7, "temperature": 1.5, "ignore_eos": True}
    first, second = [content(await post(http, TEXT, wanted)) for _ in range(2)]
    assert first == second


async def test_a_repeated_prompt_is_read_from_the_cache(http: aiohttp.ClientSession) -> None:
    prompt = {"prompt": list(range(5, 69)), "max_tokens": 1}
    await post(http, TEXT, prompt)
    again = await post(http, TEXT, prompt)
    assert again["usage"]["prompt_tokens_details"]["cached_tokens"] >= 48


async def test_a_stream_has_usage_at_its_end_or_in_each_event(http: aiohttp.ClientSession) -> None:
    for continuous in (False, True):
        options = {"include_usage": True, "continuous_usage_stats": continuous}
        body = {"model": "tiny"} | BASE[CHAT] | {"stream": True, "stream_options": options}
        async with http.post(CHAT, json=body) as answer:
            lines = [line async for line in answer.content if line.startswith(b"data: {")]
        events = [json.loads(line.removeprefix(b"data: ")) for line in lines]
        assert events[-1]["choices"] == []
        assert events[-1]["usage"]["completion_tokens"] >= 1
        assert all((event["usage"] is not None) == continuous for event in events[:-1])


async def test_models_are_listed_and_retrieved(http: aiohttp.ClientSession) -> None:
    async with http.get("/v1/models/alias") as answer:
        assert (await answer.json())["max_model_len"] == 512
    async with http.get("/v1/models/none") as answer:
        assert answer.status == 404

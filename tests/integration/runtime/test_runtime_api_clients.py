"""The bundled model, served over TCP to the `openai` library and to plain HTTP clients."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from jsonschema import Draft202012Validator

import r1_runtime
from runtime_process import Server, started, until_ready

KEY = "secret-key"
HEADERS = {"Authorization": f"Bearer {KEY}"}
MODEL = next((Path(r1_runtime.__path__[0]) / "models_bundled").glob("*/config.json")).parent
MESSAGES = [{"role": "user", "content": "What is a pod?"}]
CHAT: dict[str, Any] = {"model": "tiny", "messages": MESSAGES, "max_tokens": 12, "temperature": 0}
TEXT: dict[str, Any] = {"model": "tiny", "prompt": "A pod is", "max_tokens": 8, "temperature": 0}
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Oslo", "Rome"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"ready": {"type": "boolean"}, "color": {"enum": ["red", "blue"]}},
    "required": ["ready", "color"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("server") / "log"
    options = ("--api-key", KEY, "--tool-call-parser", "hermes", "--max-num-seqs", "4")
    with started(MODEL, log, *options) as running:
        asyncio.run(until_ready(running))
        yield running
        running.terminate()
        assert running.process.wait(60) == 0, log.read_text()
        assert "Traceback" not in log.read_text()


@pytest.fixture
async def client(server: Server) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=server.url + "/v1", api_key=KEY) as made:
        yield made


@pytest.fixture
async def http(server: Server) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(server.url, headers=HEADERS) as session:
        yield session


async def post(http: aiohttp.ClientSession, path: str, body: object) -> tuple[int, Any]:
    async with http.post(path, json=body) as answer:
        return answer.status, await answer.json()


async def completed(http: aiohttp.ClientSession, **fields: Any) -> Any:
    status, body = await post(http, "/v1/completions", TEXT | fields)
    assert status == 200, body
    return body


async def test_keys_protect_only_the_endpoints_under_v1(server: Server) -> None:
    async with aiohttp.ClientSession(server.url) as http:
        for headers in ({}, {"Authorization": "Bearer other"}, {"Authorization": KEY}):
            async with http.get("/v1/models", headers=headers) as answer:
                body = await answer.json()
                assert (answer.status, body["error"]["code"]) == (401, "invalid_api_key")
                assert answer.headers["WWW-Authenticate"] == "Bearer"
        for path in ("/health", "/metrics", "/version", "/load", "/openapi.json"):
            async with http.get(path) as answer:
                assert answer.status == 200
    async with openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="wrong") as wrong:
        with pytest.raises(openai.AuthenticationError):
            await wrong.models.list()


async def test_openai_client_lists_and_retrieves_models(client: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in await client.models.list()] == ["tiny", "alias"]
    assert (await client.models.retrieve("alias")).id == "alias"
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("other")


async def test_openai_client_reads_choices_logprobs_and_usage(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(
        **CHAT, n=2, logprobs=True, top_logprobs=3, extra_body={"ignore_eos": True}
    )
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert answer.choices[0].message.content == answer.choices[1].message.content
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert len(logprobs.content) == 12
    for item in logprobs.content:
        assert item.top_logprobs[0].token == item.token  # temperature 0
        assert math.isclose(item.top_logprobs[0].logprob, item.logprob, abs_tol=1e-5)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 24
    assert answer.usage.prompt_tokens_details is not None


async def test_openai_client_streams_choices_and_usage(client: openai.AsyncOpenAI) -> None:
    whole = await client.chat.completions.create(**CHAT)
    stream = await client.chat.completions.create(
        **CHAT, n=2, stream=True, stream_options={"include_usage": True}
    )
    texts, last = ["", ""], None
    async for chunk in stream:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
        last = chunk
    assert texts == [whole.choices[0].message.content] * 2
    assert last is not None
    assert last.usage is not None
    assert whole.usage is not None
    assert last.usage.completion_tokens == 2 * whole.usage.completion_tokens


async def test_openai_client_gets_errors_that_name_the_field(client: openai.AsyncOpenAI) -> None:
    invalid: list[tuple[str, dict[str, Any]]] = [
        ("logit_bias", {"logit_bias": {"99999": 1}}),
        ("stop_token_ids", {"extra_body": {"stop_token_ids": [99999]}}),
        ("thinking_token_budget", {"extra_body": {"thinking_token_budget": 5}}),
        ("guided_regex", {"extra_body": {"guided_regex": "("}}),
        ("unheard_of", {"extra_body": {"unheard_of": 1}}),
    ]
    for field, fields in invalid:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.chat.completions.create(**CHAT, **fields)
        assert caught.value.param == field
        with pytest.raises(openai.BadRequestError):
            await client.chat.completions.create(**CHAT, stream=True, **fields)


async def test_structured_outputs_follow_their_schema(client: openai.AsyncOpenAI) -> None:
    for seed in range(3):
        answer = await client.chat.completions.create(
            **CHAT | {"max_tokens": 200, "temperature": 1, "seed": seed},
            response_format={"type": "json_schema", "json_schema": {"name": "s", "schema": SCHEMA}},
        )
        assert answer.choices[0].finish_reason == "stop"
        Draft202012Validator(SCHEMA).validate(json.loads(answer.choices[0].message.content or ""))
    chosen = await client.chat.completions.create(**CHAT, extra_body={"guided_choice": ["x", "yy"]})
    assert chosen.choices[0].message.content in ("x", "yy")


@pytest.mark.parametrize("stream", [False, True])
async def test_enforced_tool_calls_have_valid_arguments(
    client: openai.AsyncOpenAI, stream: bool
) -> None:
    named = {"type": "function", "function": {"name": "get_weather"}}
    for choice, finish in (("required", "tool_calls"), (named, "stop")):
        wanted = CHAT | {
            "max_tokens": 300,
            "tools": [TOOL],
            "tool_choice": choice,
            "stream": stream,
        }
        answer: Any = await client.chat.completions.create(**wanted, parallel_tool_calls=False)
        name, arguments, reason = "", "", None
        if stream:
            async for chunk in answer:
                reason = chunk.choices[0].finish_reason or reason
                for part in chunk.choices[0].delta.tool_calls or []:
                    name += part.function.name or ""
                    arguments += part.function.arguments or ""
        else:
            reason = answer.choices[0].finish_reason
            (call,) = answer.choices[0].message.tool_calls
            name, arguments = call.function.name, call.function.arguments
        assert (name, reason) == ("get_weather", finish)
        assert json.loads(arguments)["city"] in ("Oslo", "Rome")


async def test_openai_client_uses_the_responses_api(client: openai.AsyncOpenAI) -> None:
    wanted: dict[str, Any] = {"model": "tiny", "input": "What is a pod?", "temperature": 0}
    whole = await client.responses.create(**wanted, max_output_tokens=8)
    chat = await client.chat.completions.create(**CHAT | {"max_tokens": 8})
    assert whole.output_text == chat.choices[0].message.content
    assert whole.usage is not None
    assert whole.usage.output_tokens == 8
    assert whole.status == "incomplete"
    stream = await client.responses.create(**wanted, max_output_tokens=8, stream=True)
    events = [event async for event in stream]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[0].type == "response.created"
    assert events[-1].type == "response.incomplete"
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == whole.output_text
    assert events[-1].response.output_text == whole.output_text


async def test_echo_scores_the_prompt_as_generation_scores_its_tokens(
    http: aiohttp.ClientSession,
) -> None:
    made = (await completed(http, logprobs=2, ignore_eos=True))["choices"][0]
    _, prompt = await post(http, "/tokenize", {"prompt": TEXT["prompt"]})
    count = len(prompt["tokens"])
    generated = made["logprobs"]["tokens"]
    _, tokens = await post(http, "/tokenize", {"prompt": TEXT["prompt"] + made["text"]})
    echoed = await completed(http, prompt=tokens["tokens"], echo=True, logprobs=2, max_tokens=0)
    choice = echoed["choices"][0]
    assert echoed["usage"]["completion_tokens"] == 0
    logprobs = choice["logprobs"]
    assert logprobs["token_logprobs"][0] is None
    assert len(logprobs["tokens"]) == len(tokens["tokens"])
    if logprobs["tokens"][count:] == generated:  # the tokenizer joins the text in the same way
        for left, right in zip(
            logprobs["token_logprobs"][count:], made["logprobs"]["token_logprobs"], strict=True
        ):
            assert math.isclose(left, right, abs_tol=1e-3)


async def test_long_prompts_are_scored_over_several_steps(http: aiohttp.ClientSession) -> None:
    prompt = [5 + at % 50 for at in range(600)]  # the budget of a step is 256 tokens
    choice = (await completed(http, prompt=prompt, echo=True, logprobs=0, max_tokens=1))["choices"][
        0
    ]
    values = choice["logprobs"]["token_logprobs"]
    assert len(values) == 601
    assert all(value <= 0 for value in values[1:])


async def test_several_prompts_and_outputs_are_numbered_in_order(
    http: aiohttp.ClientSession,
) -> None:
    both = await completed(http, prompt=["A pod is", "The node"], n=2, max_tokens=4)
    one = await completed(http, prompt="The node", max_tokens=4)
    assert [choice["index"] for choice in both["choices"]] == [0, 1, 2, 3]
    texts = [choice["text"] for choice in both["choices"]]
    assert texts[2] == texts[3] == one["choices"][0]["text"]
    assert both["usage"]["completion_tokens"] == 16


async def test_seeds_repeat_and_outputs_of_one_prompt_differ(http: aiohttp.ClientSession) -> None:
    fields = {"temperature": 1.5, "seed": 4, "n": 2, "max_tokens": 20, "ignore_eos": True}
    first, second = await completed(http, **fields), await completed(http, **fields)
    texts = [choice["text"] for choice in first["choices"]]
    assert texts == [choice["text"] for choice in second["choices"]]
    assert texts[0] != texts[1]


async def test_bias_stop_tokens_and_minimum_act_on_tokens(http: aiohttp.ClientSession) -> None:
    forced = await completed(http, logit_bias={"70": 100}, logprobs=0, max_tokens=3)
    tokens = forced["choices"][0]["logprobs"]["tokens"]
    assert len(set(tokens)) == 1
    stopped = await completed(http, logit_bias={"70": 100}, stop_token_ids=[70])
    assert stopped["choices"][0]["finish_reason"] == "stop"
    assert (stopped["choices"][0]["text"], stopped["usage"]["completion_tokens"]) == ("", 1)
    later = await completed(http, logit_bias={"1": 100}, min_tokens=5)
    assert later["usage"]["completion_tokens"] == 6
    assert later["choices"][0]["finish_reason"] == "stop"


async def test_tokenize_and_detokenize_are_inverse(http: aiohttp.ClientSession) -> None:
    status, body = await post(
        http, "/tokenize", {"model": "tiny", "prompt": "naïve 日", "return_token_strs": True}
    )
    assert (status, body["count"]) == (200, len(body["tokens"]))
    assert len(body["token_strs"]) == body["count"]
    _, text = await post(http, "/detokenize", {"tokens": body["tokens"]})
    assert text["prompt"].endswith("naïve 日")
    _, chat = await post(http, "/tokenize", {"messages": MESSAGES})
    _, text = await post(http, "/detokenize", {"tokens": chat["tokens"]})
    assert "What is a pod?" in text["prompt"]
    status, body = await post(http, "/detokenize", {"tokens": [10**6]})
    assert (status, body["error"]["param"]) == (400, "tokens")


async def test_openapi_document_describes_bodies_that_are_accepted(
    http: aiohttp.ClientSession,
) -> None:
    async with http.get("/openapi.json") as answer:
        document = await answer.json()
    schemas = document["components"]["schemas"]
    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)
    Draft202012Validator(schemas["ChatCompletionsRequest"]).validate(CHAT | {"tools": [TOOL]})
    Draft202012Validator(schemas["CompletionsRequest"]).validate(TEXT)
    assert not Draft202012Validator(schemas["CompletionsRequest"]).is_valid(TEXT | {"n": 0})


async def test_metrics_have_the_names_of_vllm(http: aiohttp.ClientSession) -> None:
    async with http.get("/metrics") as answer:
        text = await answer.text()
    for name in (
        "num_requests_running",
        "num_requests_waiting",
        "kv_cache_usage_perc",
        "cache_config_info",
        "prefix_cache_hits_total",
        "inter_token_latency_seconds_bucket",
        "request_prefill_time_seconds_count",
        "request_params_n_bucket",
    ):
        assert f"vllm:{name}{{" in text
    assert 'engine="0",model_name="tiny"' in text

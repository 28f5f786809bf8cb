"""`/v1/responses` with function tools, over TCP, by the `openai` library."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

import r1_runtime
from runtime_process import Server, started, until_ready

MODEL = Path(r1_runtime.__path__[0]) / "models_bundled" / "demo"
# The demo's own template has no role `tool`.
TEMPLATE = """{% for message in messages %}
{{ message.role }}: {{ message.content or "" }}
{%- for call in message.tool_calls or [] %}<tool_call>{{ call.function.arguments }}</tool_call>
{%- endfor %}{% endfor %}
assistant: """
TOOL: Any = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather of a city.",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"city": {"enum": ["Oslo", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
}
NAMED: Any = {"type": "function", "name": "get_weather"}
BODY: dict[str, Any] = {
    "model": "tiny",
    "temperature": 0,
    "max_output_tokens": 100,
    "tools": [TOOL],
    "parallel_tool_calls": False,
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    model, log = folder / "model", folder / "log"
    shutil.copytree(MODEL, model)
    (model / "chat_template.jinja").write_text(TEMPLATE)
    with started(model, log, "--tool-call-parser", "hermes", "--max-num-seqs", "4") as running:
        asyncio.run(until_ready(running))
        yield running
        running.terminate()
        assert running.process.wait(60) == 0, log.read_text()
        assert "Traceback" not in log.read_text()


@pytest.fixture
async def client(server: Server) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="none") as made:
        yield made


@pytest.mark.parametrize("choice", ["required", NAMED], ids=["required", "named"])
async def test_a_conversation_with_a_call_and_its_output_continues(
    client: openai.AsyncOpenAI, choice: Any
) -> None:
    question = {"role": "user", "content": "How is the weather in Rome?"}
    first = await client.responses.create(**BODY, input=[question], tool_choice=choice)  # type: ignore[list-item]
    (call,) = first.output
    assert call.type == "function_call"
    assert (first.status, call.name, call.status) == ("completed", "get_weather", "completed")
    assert json.loads(call.arguments)["city"] in ("Oslo", "Rome")
    assert first.tools[0].name == "get_weather"  # type: ignore[union-attr]
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    history: Any = [question, call.model_dump(), output]
    second = await client.responses.create(**BODY, input=history, tool_choice="none")
    assert second.output_text
    assert second.usage is not None
    assert first.usage is not None
    assert second.usage.input_tokens > first.usage.input_tokens


async def test_a_streamed_call_has_the_items_of_the_whole_response(
    client: openai.AsyncOpenAI,
) -> None:
    wanted = BODY | {"input": "How is the weather?", "tool_choice": NAMED}
    whole = await client.responses.create(**wanted)
    stream = await client.responses.create(**wanted, stream=True)
    events = [event async for event in stream]
    deltas = [e.delta for e in events if e.type == "response.function_call_arguments.delta"]
    (done,) = [e for e in events if e.type == "response.function_call_arguments.done"]
    (item,) = [e.item for e in events if e.type == "response.output_item.done"]
    assert "".join(deltas) == done.arguments == item.arguments == whole.output[0].arguments
    assert events[-1].type == "response.completed"
    assert events[-1].response.output == [item]
    assert item.id == done.item_id


async def test_the_library_collects_a_stream_with_its_helper(client: openai.AsyncOpenAI) -> None:
    async with client.responses.stream(
        model="tiny", input="What is a pod?", temperature=0, extra_body={"stop": [" "]}
    ) as stream:
        final = await stream.get_final_response()
    assert final.output_text


async def test_stored_responses_are_refused_with_what_to_do(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="send the whole conversation") as caught:
        await client.responses.create(model="tiny", input="x", previous_response_id="resp_1")
    assert caught.value.param == "previous_response_id"
    with pytest.raises(openai.NotFoundError, match="not stored"):
        await client.responses.retrieve("resp_1")


async def test_an_error_names_the_field_of_this_body(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await client.responses.create(model="tiny", input="word " * 5000)
    assert (caught.value.param, caught.value.code) == ("input", "context_length_exceeded")

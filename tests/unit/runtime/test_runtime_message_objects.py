"""Response objects of chats and completions, from outputs of the engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from r1_runtime.engine.messages import Output, TokenLogprobs
from r1_runtime.engine.sequence import Finish
from r1_runtime.output_parsing.delta import OutputParser, PlainText
from r1_runtime.output_parsing.reasoning import ReasoningParser
from r1_runtime.output_parsing.tool_calls import PARSERS, NamedCall
from r1_runtime.server.api.chat import parse_chat
from r1_runtime.server.api.completion import parse_completion
from r1_runtime.server.output.builder import Head
from r1_runtime.server.output.chat import ChatBuilder
from r1_runtime.server.output.completion import CompletionBuilder
from r1_runtime.server.output.usage import UsageCounter

HEAD = Head("id", "m", 7)
TOOL = {"type": "function", "function": {"name": "f"}}
CALL = '<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>'


def output(text: str, finish: Finish | None = None, **fields: Any) -> Output:
    return Output("r", text, 1, 3, finish=finish, **fields)


def chat(parsers: Sequence[OutputParser], **fields: Any) -> ChatBuilder:
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}]} | fields
    return ChatBuilder(HEAD, parse_chat(body), parsers, str)


def completion(**fields: Any) -> CompletionBuilder:
    request = parse_completion({"model": "m", "prompt": "x"} | fields)
    return CompletionBuilder(HEAD, request, [("Hi", (4, 5))], lambda token: f"<{token}>")


def usage() -> UsageCounter:
    return UsageCounter([2], 1)


def test_reasoning_has_both_names_and_content_is_null_without_text() -> None:
    builder = chat([ReasoningParser(PlainText(), inside=True)])
    message = builder.full([output("why</think>so", Finish.STOP)], usage())["choices"][0]["message"]
    assert message["content"] == "so"
    assert (message["reasoning"], message["reasoning_content"]) == ("why", "why")
    builder = chat([ReasoningParser(PlainText(), inside=True)])
    message = builder.full([output("why", Finish.LENGTH)], usage())["choices"][0]["message"]
    assert message["content"] is None


def test_include_reasoning_false_leaves_the_reasoning_out() -> None:
    builder = chat([ReasoningParser(PlainText(), inside=True)], include_reasoning=False)
    message = builder.full([output("why</think>so", Finish.STOP)], usage())["choices"][0]["message"]
    assert "reasoning" not in message
    assert message["content"] == "so"


def test_a_chosen_call_ends_with_tool_calls_and_a_named_one_with_stop() -> None:
    choice = chat([PARSERS["hermes"]()], tools=[TOOL]).full([output(CALL, Finish.STOP)], usage())[
        "choices"
    ][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    call = choice["message"]["tool_calls"][0]
    assert call["id"].startswith("call_")
    assert call["function"] == {"name": "f", "arguments": '{"a": 1}'}
    named = {"type": "function", "function": {"name": "f"}}
    builder = chat([NamedCall("f")], tools=[TOOL], tool_choice=named)
    choice = builder.full([output("{}", Finish.STOP)], usage())["choices"][0]
    assert choice["finish_reason"] == "stop"
    assert choice["message"]["tool_calls"][0]["function"]["arguments"] == "{}"


def test_parallel_tool_calls_false_returns_the_first_call_only() -> None:
    builder = chat([PARSERS["hermes"]()], tools=[TOOL], parallel_tool_calls=False)
    choice = builder.full([output(CALL + CALL, Finish.STOP)], usage())["choices"][0]
    assert len(choice["message"]["tool_calls"]) == 1


def test_streamed_calls_have_id_and_name_once() -> None:
    builder = chat([PARSERS["hermes"]()], tools=[TOOL], stream=True)
    events = [
        event.data
        for text in (CALL[:20], CALL[20:45], CALL[45:])
        for event in builder.events(0, output(text), usage())
    ]
    events += [event.data for event in builder.events(0, output("", Finish.STOP), usage())]
    parts = [
        part for event in events for part in event["choices"][0]["delta"].get("tool_calls", [])
    ]
    assert parts[0]["function"]["name"] == "f"
    assert all("id" not in part for part in parts[1:])
    assert "".join(part["function"]["arguments"] for part in parts) == '{"a": 1}'
    assert events[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_usage_is_null_in_chunks_and_continuous_on_request() -> None:
    options: dict[str, Any] = {"include_usage": True}
    builder = chat([PlainText()], stream=True, stream_options=options)
    counts = usage()
    assert [event.data["usage"] for event in builder.events(0, output("a"), counts)] == [None, None]
    counts.add(0, output("a", cached_tokens=1))
    last = builder.last_events(counts)[0].data
    assert (last["choices"], last["usage"]["completion_tokens"]) == ([], 3)
    assert last["usage"]["prompt_tokens_details"] == {"cached_tokens": 1}
    builder = chat(
        [PlainText()], stream=True, stream_options=options | {"continuous_usage_stats": True}
    )
    assert builder.events(0, output("a"), counts)[-1].data["usage"]["total_tokens"] == 5


def test_chat_logprobs_have_text_bytes_and_alternatives() -> None:
    builder = chat([PlainText()], logprobs=True, top_logprobs=2)
    entry = TokenLogprobs(5, -1.0, ((6, -0.5), (5, -1.0)))
    choice = builder.full([output("a", Finish.STOP, logprobs=(entry,))], usage())["choices"][0]
    (item,) = choice["logprobs"]["content"]
    assert (item["token"], item["bytes"], item["logprob"]) == ("5", [53], -1.0)
    assert [top["token"] for top in item["top_logprobs"]] == ["6", "5"]


def test_echo_has_the_prompt_once_and_no_value_for_its_first_token() -> None:
    entries = (TokenLogprobs(6, -2.0, ((7, -1.0),)),)
    prompt = (TokenLogprobs(5, float("-inf"), ()),)
    builder = completion(echo=True, logprobs=1, stream=True)
    first = builder.events(0, output("!", logprobs=entries, prompt_logprobs=prompt), usage())
    choice = first[0].data["choices"][0]
    assert choice["text"] == "Hi!"
    logprobs = choice["logprobs"]
    assert logprobs["tokens"] == ["<4>", "<5>", "<6>"]
    assert logprobs["token_logprobs"] == [None, -9999.0, -2.0]
    assert logprobs["text_offset"] == [0, 3, 6]
    assert logprobs["top_logprobs"] == [None, {"<5>": -9999.0}, {"<7>": -1.0, "<6>": -2.0}]
    later = builder.events(0, output("?", Finish.STOP, logprobs=entries), usage())
    choice = later[0].data["choices"][0]
    assert (choice["text"], choice["logprobs"]["text_offset"]) == ("?", [9])


def test_echo_without_output_has_the_prompt_only() -> None:
    builder = completion(echo=True, max_tokens=0, logprobs=0)
    prompt, entries = (TokenLogprobs(5, -1.0),), (TokenLogprobs(6, -2.0),)
    whole = output("!", Finish.LENGTH, logprobs=entries, prompt_logprobs=prompt)
    choice = builder.full([whole], usage())["choices"][0]
    assert choice["text"] == "Hi"
    assert choice["logprobs"]["tokens"] == ["<4>", "<5>"]
